"""The job's checkpoint folder, and its newest complete checkpoint.

SageMaker copies the folder to S3 while the job runs, and back to every instance when a spot job starts again (developer
guide, model-checkpoints). The copies have times of their own, so the newest is told by what is in it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.checkpoint.reading import read
from lightning_sagemaker.folders import printable, walk
from lightning_sagemaker.job import base_dir, is_training_job
from lightning_sagemaker.job.resources import config_text
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lightning_sagemaker.checkpoint.reading import Facts

# Not `*.ckpt`, and not `last*`: a script's own search for the newest of its files must not find what SIGTERM left.
SIGTERM_NAME = "sigterm-epoch={epoch}-step={step}.checkpoint"
CONFIG = "checkpointconfig.json"
_NAMED = 5  # checkpoints that a line names


def checkpoint_folder(environ: Mapping[str, str] | None = None) -> Path | None:
    """Folder of this job's checkpoints; ``None`` outside SageMaker training jobs, and if the job has none.

    It is ``LocalPath`` of ``checkpointconfig.json``, which exists only in jobs with a checkpoint configuration, else
    ``/opt/ml/checkpoints`` where that exists.

    Args:
        environ: Environment to read, the process's own by default.

    Raises:
        ValueError: ``checkpointconfig.json`` is malformed, or may not be read.
    """
    environ = os.environ if environ is None else environ
    if not is_training_job(environ):
        return None
    config, text = config_text(environ, None, CONFIG, None, "It says where the job's checkpoints live.")
    if text is None:
        folder = base_dir(environ) / "checkpoints"
        return folder if folder.is_dir() else None
    try:
        return Path(json.loads(text)["LocalPath"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{config} has no `LocalPath` ({error!r}); it says where the job's checkpoints live. HINT: SageMaker writes"
            " this file; do not overwrite it."
        ) from error


def latest_checkpoint(folder: str | Path | None = None) -> Path | None:
    """Newest complete checkpoint, for ``trainer.fit(model, ckpt_path=latest_checkpoint())``.

    The newest is the one with the most optimizer steps, then epochs; between equals the higher version (``last-v10``
    over ``last-v9`` over ``last``), then the name, on all hosts alike: SageMaker's copy from S3 gives files new times.
    Nothing in a checkpoint is executed, and no tensor is read. One that is damaged, or holds weights only, is passed
    over, as is what is no regular file, and one line names them.

    Args:
        folder: Where to look, with its subfolders; by default the job's checkpoint folder.

    Returns:
        Its path, or ``None`` where there is none: then training starts from the beginning.

    Raises:
        ValueError: ``checkpointconfig.json`` is malformed.
    """
    root = checkpoint_folder() if folder is None else Path(folder).expanduser()
    complete = read_all(candidates(root) if root is not None else (), log.warning)
    return max(complete, key=lambda path: age(path, complete[path]), default=None)


def candidates(folder: Path) -> Iterator[Path]:
    """All paths below a folder that are named like checkpoints, except those inside a sharded checkpoint."""
    return filter(_is_named, walk(folder, lambda path: path.name.startswith("."), _is_named))


def _is_named(path: Path) -> bool:
    return path.suffix == ".ckpt" or (path.suffix == ".checkpoint" and path.name.startswith("sigterm-"))


def read_all(paths: Iterable[Path], note: Callable[..., None]) -> dict[Path, Facts]:
    """The progress that each complete checkpoint records; one line of the log notes all that are skipped."""
    complete, skipped = {}, []
    for path in paths:
        try:
            complete[path] = read(path)
        except (OSError, ValueError) as error:  # noqa: PERF203 - one bad file must not hide the others
            skipped.append((path, error))
    if skipped:
        (first, reason), *others = ((printable(path), printable(error)) for path, error in skipped[:_NAMED])
        more = len(skipped) - _NAMED
        further = [*(f"; {name}: {why}" for name, why in others), f"; and {more} more" if more > 0 else ""]
        note("Checkpoint %s is skipped: %s%s", first, reason, "".join(further))
    return complete


def age(path: Path, facts: Facts) -> tuple[object, ...]:
    """A sort key of checkpoints, the newest last."""
    # Lightning numbers what would overwrite an older file: `last.ckpt`, then `last-v1.ckpt`.
    version = re.search(r"-v(\d+)$", path.stem)
    numbers_as_numbers = [(text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", str(path))]
    return facts.step, facts.epoch, int(version[1]) if version else 0, numbers_as_numbers
