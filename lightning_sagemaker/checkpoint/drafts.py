"""Names of files that are still being written, by which the next writer knows those that a killed one left behind."""

from __future__ import annotations

import functools
import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lightning_sagemaker import processes

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIX = ".part"


def name(path: Path) -> Path:
    """A name in the same folder that no other process, container or host uses, however long that of the file is."""
    pid = os.getpid()
    return path.with_name(f".{_short(path.name)}.{_container()}.{pid}.{processes.start_of(pid)}{_SUFFIX}")


def remove_left(folder: Path) -> None:
    """Remove what writers left behind that are gone: ended, or of another container, whose file is a mere copy."""
    for path in folder.glob(f".*{_SUFFIX}"):
        parts = path.name.removesuffix(_SUFFIX).rsplit(".", 3)
        if len(parts) == 4 and parts[2].isdigit():  # noqa: PLR2004 - name, container, process, its start
            _, container, pid, start = parts
            if container != _container() or processes.has_ended(int(pid), start):
                with suppress(OSError):
                    path.unlink()


@functools.cache
def _container() -> str:
    return _short(processes.container())


def _short(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]
