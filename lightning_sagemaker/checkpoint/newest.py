"""Where a job's checkpoints live, and which is the newest whole one.

SageMaker copies the folder to S3 while the job runs, and back to every instance when a spot job starts again (developer
guide, model-checkpoints). The copies have times of their own, so the newest is told by what is in it.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.checkpoint.reading import progress
from lightning_sagemaker.job import base_dir, in_training_job
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def checkpoint_folder(environ: Mapping[str, str] | None = None) -> Path | None:
    """Folder of this job's checkpoints; ``None`` outside SageMaker training jobs, and where the job has none.

    It is ``LocalPath`` of ``checkpointconfig.json``, which exists only in jobs with a checkpoint configuration, else
    ``/opt/ml/checkpoints`` where that exists.

    Args:
        environ: Environment to read, the process's own by default.

    Raises:
        ValueError: ``checkpointconfig.json`` is malformed.
    """
    environ = os.environ if environ is None else environ
    if not in_training_job(environ):
        return None
    config = base_dir(environ) / "input" / "config" / "checkpointconfig.json"
    try:
        folder = json.loads(config.read_text(encoding="utf-8"))["LocalPath"]
    except FileNotFoundError:
        folder = base_dir(environ) / "checkpoints"
        return folder if folder.is_dir() else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{config} has no `LocalPath` ({error!r}); it says where the job's checkpoints live. HINT: SageMaker writes"
            " this file; do not overwrite it."
        ) from error
    return Path(folder)


def latest_checkpoint(folder: str | Path | None = None) -> Path | None:
    """Newest whole checkpoint, for ``trainer.fit(model, ckpt_path=latest_checkpoint())``.

    The newest is the one with the most optimizer steps, then epochs; names decide between equals (``last-v10`` over
    ``last-v9``), on all hosts alike: SageMaker's copy from S3 gives files new times. Nothing in a checkpoint is
    executed, and no tensor is read. One that is damaged, or holds weights only, is passed over, and a line names it.

    Args:
        folder: Where to look, with its subfolders; by default the job's checkpoint folder.

    Returns:
        Its path, or ``None`` where there is none: then training starts from the beginning.

    Raises:
        ValueError: ``checkpointconfig.json`` is malformed.
    """
    root = checkpoint_folder() if folder is None else Path(folder).expanduser()
    whole: dict[Path, tuple[object, ...]] = {}
    for path in _candidates(root) if root is not None else ():
        try:
            whole[path] = (*progress(path), _natural(path))
        except (OSError, ValueError) as error:  # noqa: PERF203 - one bad file must not hide the others
            log.warning("Checkpoint %s is passed over: %s", path, error)
    return max(whole, key=whole.__getitem__, default=None)


def _candidates(folder: Path) -> Iterator[Path]:
    """Everything that is named as a checkpoint, but for what lies in a sharded one."""
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if path.suffix == ".ckpt":
                yield path
            elif path.is_dir():
                yield from _candidates(path)


def _natural(path: Path) -> list[tuple[str, int]]:
    """A sort key in which the numbers of a name count as numbers."""
    return [(text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", str(path))]
