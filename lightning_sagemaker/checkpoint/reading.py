"""Reads whether a checkpoint is complete and how far training was; executes nothing in it, reads no tensor."""

from __future__ import annotations

import io
import pickle
import re
import stat
import zipfile
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MARK = "lightning_sagemaker"  # key of what this package adds to a checkpoint
# Bytes that are read at most: of an archive's directory (half a million tensors), and of a pickle, which has the arrays
# of NumPy in it (replay buffers), but no tensor of torch.
_LONGEST_DIRECTORY = 1 << 26
_LONGEST_PICKLE = 1 << 30
_PIECE = 1 << 16


class Facts(NamedTuple):
    """The facts that a checkpoint records about its training."""

    step: int  # of the optimizer; -1 where it does not tell (Fabric)
    epoch: int  # from 0; -1 where it does not tell
    mark: Mapping[str, object]  # what `checkpoint.resume` has added; empty where it was written without


def read(path: Path) -> Facts:
    """Read the facts that a checkpoint, a file or a sharded one's folder, records about its training.

    Raises ``ValueError`` if it is not complete, or no training can continue from it.
    """
    if path.is_dir():
        _check_shards(path)
        path = path / "meta.pt"
    content = _content(path)
    if not isinstance(content, dict):
        raise ValueError("it does not hold a dictionary, so it is not a checkpoint of Lightning")
    if "pytorch-lightning_version" in content and "callbacks" not in content:
        raise ValueError("it holds weights only (`save_weights_only`), from which no training continues")
    step, epoch, mark = (content.get(key) for key in ("global_step", "epoch", MARK))
    return Facts(
        step if isinstance(step, int) else -1,
        epoch if isinstance(epoch, int) else -1,
        # Whatever wrote the file: what is no text or number is compared with nothing.
        {key: value for key, value in mark.items() if isinstance(value, str | int)} if isinstance(mark, dict) else {},
    )


def _content(path: Path) -> object:
    """The value that was given to :func:`torch.save`, without its tensors and objects."""
    if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe waits, and a device may never end
        raise ValueError("it is not a regular file")
    try:
        with _Bounded(io.FileIO(path)) as bounded, zipfile.ZipFile(bounded) as archive:
            # A file that was cut may end with an archive that some tensor or text in it holds: that one begins later.
            if min((member.header_offset for member in archive.infolist()), default=0) != 0:
                raise EOFError("it ends with a smaller archive")  # noqa: TRY301 - as if zipfile had
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("its records are compressed, as torch writes none")  # noqa: TRY301 - and may be bombs
            (data,) = (each for each in archive.infolist() if re.fullmatch("[^/]*/data[.]pkl", each.filename))
            _check_length("data.pkl", data.file_size, _LONGEST_PICKLE)
            if data.CRC == 0:  # torch.serialization.set_crc32_options(False)
                del data.CRC
            with archive.open(data) as file:
                return _Skeleton(io.BufferedReader(file, _PIECE)).load()  # type: ignore[type-var] # typeshed: RawIOBase
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(
            f"it is not complete, {path.stat().st_size} bytes ({error}); its writing did not end"
        ) from error
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"it is not a checkpoint of torch.save ({type(error).__name__}: {error})") from error


def _check_shards(folder: Path) -> None:
    """Check that all shards of a sharded checkpoint exist, at their full length.

    torch writes ``.metadata``, which lists each file's parts, after all shards; Lightning writes ``meta.pt`` after
    that. A copy to S3, or back, may still lack some of the files.
    """
    missing = [name for name in (".metadata", "meta.pt") if not (folder / name).is_file()]
    if missing and (folder / "latest").is_file():
        raise ValueError("it is DeepSpeed's, which tells neither its step nor its end. HINT: `fit(ckpt_path=...)`")
    if missing:
        raise ValueError(
            f"it is a folder without {' and '.join(missing)}: a sharded checkpoint whose writing did not end, or none"
            " of torch.distributed.checkpoint"
        )
    try:
        with (folder / ".metadata").open("rb") as file:
            _check_length(".metadata", (folder / ".metadata").stat().st_size, _LONGEST_PICKLE)
            unpickler = _Skeleton(file)
            unpickler.load()
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"its .metadata is not complete ({type(error).__name__}: {error})") from error
    if not unpickler.parts:
        raise ValueError("its .metadata lists no shard")
    ends: dict[str, int] = {}
    for part in unpickler.parts:
        name, end = str(part["relative_path"]), int(part["offset"]) + int(part["length"])
        ends[name] = max(end, ends.get(name, 0))
    for name, end in sorted(ends.items()):
        shard = folder / name
        length = shard.stat().st_size if shard.is_file() else None
        if length is None or length < end:
            found = "is missing" if length is None else f"has {length} bytes"
            raise ValueError(f"it is not complete: its shard {name} {found}, and .metadata lists {end} bytes of it")


def _check_length(what: str, length: int, limit: int) -> None:
    if length > limit:
        raise ValueError(f"{what} has {length} bytes, and at most {limit} are read")


class _Bounded(io.BufferedReader):
    """A file with a limit on the bytes of one read: `zipfile` reads an archive's directory in one piece."""

    def read(self, size: int | None = -1, /) -> bytes:
        _check_length("its directory", size or 0, _LONGEST_DIRECTORY)
        return super().read(size)


class _Anything:
    """Placeholder for every object and tensor of a checkpoint."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __call__(self, *_args: object, **_kwargs: object) -> _Anything:
        return self

    def _take(self, *_given: object) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = _take


class _Skeleton(pickle._Unpickler):  # noqa: SLF001 - the one in Python has no public name
    """Reads numbers, texts and containers, imports nothing, and takes no more memory than the pickle has bytes.

    It is the one in Python: the one in C makes a list as long as the highest number that a pickle gives to an object
    (LONG_BINPUT: 10 bytes took 8 GB). Torch's protocol has no BYTEARRAY8, for which this one takes what the file says.
    ``parts`` has the fields of every ``_StorageInfo``: in which file of a sharded checkpoint, and where, a part lies.
    """

    dispatch = pickle._Unpickler.dispatch.copy()  # noqa: SLF001
    del dispatch[pickle.BYTEARRAY8[0]]

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.parts: list[dict[str, Any]] = []
        parts = self.parts

        class StorageInfo(_Anything):
            def __setstate__(self, *given: object) -> None:
                parts.extend(state for state in given if isinstance(state, dict))

        self._storage_info = StorageInfo

    def find_class(self, _module: str, name: str) -> type:
        return self._storage_info if name == "_StorageInfo" else _Anything

    def persistent_load(self, _pid: Any) -> _Anything:
        return _Anything()
