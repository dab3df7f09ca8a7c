"""What became of a piece of work, in a file that is there whole or not at all.

Its room on the disk is taken before the work begins, so that a disk that the work has filled can still say so. The file
is not flushed to the device (``fsync``): a process that dies takes nothing of it along, since it is the kernel's by
then, and after a crash of the machine the container is another one, and looks elsewhere.
"""

from __future__ import annotations

import json
import os
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from lightning_sagemaker import processes
from lightning_sagemaker.locking.identity import Who
from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

MOST_BYTES = 64 * 1024  # of a value as JSON: the outcome of work is a file and its name, not its content
_MOST_NAME, _MOST_MESSAGE, _MOST_TRACEBACK = 200, 2_000, 8_000  # characters, of an error
_MOST_READ = 64_000  # characters of it in which secrets are looked for
_PIECE = 4096  # bytes: most outcomes are smaller
# JSON writes some characters as twelve. The rest is for names and numbers.
_ROOM = max(MOST_BYTES, 12 * (_MOST_NAME + _MOST_MESSAGE + _MOST_TRACEBACK)) + 4096


@dataclass(frozen=True)
class Failure:
    """An error, as text.

    Attributes:
        type: Name of its class.
        message: What it said.
        traceback: Where, as Python prints it.
    """

    type: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Describe an error without secrets, for the logs of others; never raises, whatever its own methods do."""
        try:
            message = str(error)
        except Exception:  # noqa: BLE001 - somebody else's __str__
            message = "(its message cannot be shown)"
        try:
            text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        except Exception:  # noqa: BLE001
            text = "(its traceback cannot be shown)"
        message, text = redact(message[:_MOST_READ], os.environ), redact(text[-_MOST_READ:], os.environ)
        return cls(type(error).__qualname__[:_MOST_NAME], message[:_MOST_MESSAGE], text[-_MOST_TRACEBACK:])


@dataclass(frozen=True)
class Outcome:
    """What became of it.

    Attributes:
        who: The process that did it.
        at: When, by :func:`processes.clock`.
        failure: Why it failed; ``None`` where it is done.
        value: What it returned.
    """

    who: Who
    at: float
    failure: Failure | None = None
    value: Any = None

    @property
    def concerns_me(self) -> bool:
        """Whether this process goes by it: what is done is done; a failure is for the processes that lived then.

        One that was started later - by torchrun, which starts all anew, or by a retrying script - tries again.
        """
        return self.failure is None or self.at >= processes.born()

    @classmethod
    def read(cls, path: Path) -> Outcome | None:
        """The outcome in a file, ``None`` where there is no file.

        Raises:
            ValueError: The file holds something else.
        """
        try:
            text = _content(path)
        except FileNotFoundError:
            return None
        try:
            record = json.loads(text)
            failure = record["failure"]
            who = Who(**record["who"])
            return cls(who, record["at"], None if failure is None else Failure(**failure), record["value"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} is not an outcome as this package writes it ({error!r}): {text[:120]!r}. HINT: processes of"
                " one run must have one version of lightning-sagemaker; remove the file if nothing else explains it."
            ) from error

    def to_json(self) -> bytes:
        """The content of its file."""
        return json.dumps(asdict(self)).encode()


class Publication:
    """Room for an outcome, taken before the work; for use in a ``with`` statement.

    Args:
        path: Where the outcome appears.

    Raises:
        OSError: There is no room, or the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._file: BinaryIO | None = None
        self._size: int | None = None
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        try:
            self._part.unlink(missing_ok=True)  # of a process that was killed
            self._file = self._part.open("xb", buffering=0)
            _reserve(self._file.fileno(), _ROOM)
        except OSError as error:
            self.__exit__()
            raise OSError(
                error.errno,
                f"{self._part} cannot be made, and without it the outcome could not be told to the others:"
                f" {error.strerror}. HINT: make room ({_ROOM} bytes), or set LIGHTNING_SAGEMAKER_LOCK_DIR.",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._pid != os.getpid():
            return  # a forked child: the room is its parent's
        with suppress(OSError):
            if self._file is not None and self._size is not None:
                self._file.truncate(self._size)  # not before the others are woken: it takes a disk its time
            else:
                self._part.unlink(missing_ok=True)
        if self._file is not None:
            self._file.close()

    def publish(self, outcome: Outcome) -> None:
        """Let the outcome appear, at once and whole.

        Raises:
            OSError: It cannot be written.
        """
        file = self._file
        assert file is not None, "used in its `with` statement"  # noqa: S101 - an invariant of this file
        content = outcome.to_json()
        written = 0
        while written < len(content):
            written += os.pwrite(file.fileno(), content[written:], written)
        self._size = len(content)
        self._part.replace(self._path)


def _content(path: Path) -> bytes:
    """What was written: the rest of the room, zeros, is given back only after the outcome has appeared."""
    with path.open("rb", buffering=0) as file:
        text = b""
        while piece := file.read(_PIECE):
            text += piece.rstrip(b"\0")
            if piece.endswith(b"\0"):
                break
    return text


def _reserve(descriptor: int, size: int) -> None:
    with suppress(AttributeError):
        os.posix_fallocate(descriptor, 0, size)
        return
    os.pwrite(descriptor, b"\0" * size, 0)  # macOS
