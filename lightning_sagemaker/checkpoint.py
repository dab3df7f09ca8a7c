"""Where a job's checkpoints live, which is the newest whole one, and writing that a kill cannot turn into half of one.

SageMaker copies the folder to S3 while the job runs, and back to every instance when a spot job starts again (developer
guide, model-checkpoints). The copies have times of their own, so the newest is told by what is in it.
"""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lightning_sagemaker.job import base_dir, in_training_job
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Iterator

RESUME = "LIGHTNING_SAGEMAKER_RESUME"


def checkpoint_folder() -> Path | None:
    """Folder of this job's checkpoints; ``None`` outside SageMaker training jobs, and where the job has none.

    It is ``LocalPath`` of ``checkpointconfig.json``, which exists only in jobs with a checkpoint configuration, else
    ``/opt/ml/checkpoints`` where that exists.

    Raises:
        ValueError: ``checkpointconfig.json`` is malformed.
    """
    if not in_training_job(os.environ):
        return None
    config = base_dir(os.environ) / "input" / "config" / "checkpointconfig.json"
    try:
        folder = json.loads(config.read_text(encoding="utf-8"))["LocalPath"]
    except FileNotFoundError:
        folder = base_dir(os.environ) / "checkpoints"
        return folder if folder.is_dir() else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{config} has no `LocalPath` ({error!r}); it says where the job's checkpoints live. HINT: SageMaker writes"
            " this file; do not overwrite it."
        ) from error
    return Path(folder)


def latest_checkpoint(folder: str | Path | None = None) -> Path | None:
    """Newest whole checkpoint, for ``trainer.fit(model, ckpt_path=latest_checkpoint())``.

    The newest is the one with the most optimizer steps; the file's time decides only between equals, since SageMaker's
    copy from S3 gives files new times. Nothing in a checkpoint is executed, and no tensor is read. A damaged one is
    passed over, with a line that names it.

    Args:
        folder: Where to look, with its subfolders; by default the job's checkpoint folder.

    Returns:
        Its path, or ``None`` where there is none: then training starts from the beginning.

    Raises:
        ValueError: ``checkpointconfig.json`` is malformed.
    """
    root = checkpoint_folder() if folder is None else Path(folder)
    newest: tuple[tuple[int, int, float, str], Path] | None = None
    for path in _candidates(root) if root is not None else ():
        try:
            order = (*progress(path), path.stat().st_mtime, path.name)
        except (OSError, ValueError) as error:
            log.warning("Checkpoint %s is passed over: %s", path, error)
            continue
        newest = max(newest, (order, path)) if newest else (order, path)
    return newest[1] if newest else None


def progress(path: Path) -> tuple[int, int]:
    """Optimizer steps and epoch at which a checkpoint was written; -1 where it does not tell (Fabric).

    Args:
        path: A file of :func:`torch.save`, or a folder of a sharded strategy.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not whole.
    """
    if path.is_dir():
        # torch writes `.metadata` after all shards, Lightning `meta.pt` after that.
        missing = [name for name in (".metadata", "meta.pt") if not (path / name).is_file()]
        if missing:
            raise ValueError(f"it is a sharded checkpoint without {' and '.join(missing)}, so its writing did not end")
        path = path / "meta.pt"
    try:
        with zipfile.ZipFile(path) as archive:
            (data,) = (name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1)
            with archive.open(data) as file:
                content = _Skeleton(file).load()
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"it is not whole, {path.stat().st_size} bytes ({error}); its writing did not end") from error
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"it is no checkpoint of torch.save ({type(error).__name__}: {error})") from error
    found = [content.get(key) if isinstance(content, dict) else None for key in ("global_step", "epoch")]
    step, epoch = (value if isinstance(value, int) else -1 for value in found)
    return step, epoch


def save_whole(content: object, path: Path) -> None:
    """Write a checkpoint so that its name never stands for half of it, whenever the process is killed.

    It is written under another name in the same folder, which :func:`latest_checkpoint` never takes, flushed to the
    device, and renamed. What killed writers left in the folder is removed.

    Args:
        content: What :func:`torch.save` accepts.
        path: Where it shall be; a file there is replaced.

    Raises:
        OSError: It cannot be written; the file that was there before still is.
    """
    import torch  # noqa: PLC0415 - only a process that trains writes checkpoints

    from lightning_sagemaker import drafts  # noqa: PLC0415 - the same

    drafts.remove_left(path.parent)
    draft = drafts.name(path)
    try:
        with draft.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    with suppress(OSError):  # not every file system can flush a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


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


class _Anything:
    """Stands for every object and tensor of a checkpoint."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __call__(self, *_args: object, **_kwargs: object) -> _Anything:
        return self

    def __setstate__(self, _state: object) -> None:
        pass

    def __setitem__(self, _key: object, _value: object) -> None:
        pass

    def append(self, _item: object) -> None:
        pass

    def extend(self, _items: object) -> None:
        pass


class _Skeleton(pickle.Unpickler):
    """Reads numbers, texts and containers, and imports nothing."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)

    def find_class(self, _module: str, _name: str) -> type:
        return _Anything

    def persistent_load(self, _pid: Any) -> _Anything:  # noqa: ANN401
        return _Anything()
