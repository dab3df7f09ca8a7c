"""The script of a job, and the rules for it and for what it is given: the same before it is simulated and sent."""

from __future__ import annotations

import re
from collections.abc import Sequence  # noqa: TC003 - jsonargparse reads the types of a job's fields
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.arguments import Carried, carry
from lightning_sagemaker.source_folder import is_too_broad

if TYPE_CHECKING:
    from collections.abc import Iterable

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Characters that the toolkit accepts in the name of an entry point; it refuses the job over any other.
_ENTRY_POINT = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._+-]*")
_CHANNEL = re.compile(r"(?!\.\.?$)[A-Za-z0-9.\-_]{1,64}")  # of the API reference; . and .. are folders already


class Script:
    """What the descriptions of a simulation and of a job begin with."""

    script: str | Path
    arguments: Sequence[str]
    source_dir: str | Path | None

    @property
    def path(self) -> Path:
        """The script."""
        return Path(self.script)

    @property
    def folder(self) -> Path:
        """The source folder, without links."""
        # That of the name that was given: a script that is a link may lead out of it.
        return (self.path.parent if self.source_dir is None else Path(self.source_dir)).resolve()

    @property
    def entry(self) -> str:
        """The script, relative to the source folder."""
        return self.path.resolve().relative_to(self.folder).as_posix()

    @property
    def carried(self) -> Carried:
        """How a job carries the arguments to the script."""
        return carry(self.arguments)


def check(job: Script, variables: Iterable[str], channels: Iterable[str], *, by_toolkit: bool = True) -> None:
    """Refuse what no job takes, by FileNotFoundError or ValueError; the toolkit starts jobs of `submit` and SDK v2."""
    if isinstance(job.arguments, str):
        raise ValueError(f"`arguments` is {job.arguments!r}, expected a list. HINT: shlex.split(...) of it.")
    if not job.path.is_file():
        raise FileNotFoundError(
            f"script is {str(job.script)!r}, which is not a file. HINT: paths are relative to {str(Path.cwd())!r}."
        )
    if not job.path.resolve().is_relative_to(job.folder):
        leads = f", a link to {str(job.path.resolve())!r}," if job.path.is_symlink() else ","
        raise ValueError(
            f"script is {str(job.script)!r}{leads} which is not in the source folder {str(job.folder)!r}. HINT:"
            " --source-dir names a folder that holds the script."
        )
    if not job.entry.endswith(".py"):
        raise ValueError(
            f"script is {job.entry!r}, expected a .py file. HINT: every launcher of SageMaker but the plain one starts"
            " Python scripts only."
        )
    if job.source_dir is None and is_too_broad(job.folder):
        raise ValueError(
            f"script is in {str(job.folder)!r}, all of which would be the source folder. HINT: move the script to a"
            " folder of its own, or say so with --source-dir."
        )
    if by_toolkit and not all(map(_ENTRY_POINT.fullmatch, job.entry.split("/"))):
        raise ValueError(
            f"script is {job.entry!r}; SageMaker's toolkit refuses an entry point with other characters than letters,"
            " digits and . _ + -, or with a leading - or +. HINT: rename the script."
        )
    if wrong := [name for name in variables if not VARIABLE.fullmatch(name)]:
        raise ValueError(
            f"environment variable is named {wrong[0]!r}, expected letters, digits and underscores. HINT: --env"
            " NAME=VALUE."
        )
    if wrong := [name for name in channels if not _CHANNEL.fullmatch(name)]:
        raise ValueError(
            f"channel is named {wrong[0]!r}, expected up to 64 letters, digits and . - _ HINT: --channel NAME=PLACE."
        )
    carry(job.arguments)
