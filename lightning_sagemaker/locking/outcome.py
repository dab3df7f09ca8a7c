"""The outcome of the work, a value or an error, in a file that the other processes read.

The file is not flushed to the device (``fsync``): a process that dies takes nothing of it along, since it is the
kernel's by then, and after a crash of the machine the container is another one, and looks elsewhere.
"""

from __future__ import annotations

import json
import os
import traceback
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lightning_sagemaker import processes
from lightning_sagemaker.locking.directory import write
from lightning_sagemaker.locking.identity import Process
from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from pathlib import Path

_MOST_MESSAGE, _MOST_TRACEBACK = 2_000, 8_000  # characters, of an error
_MOST_READ = 64_000  # characters of it in which secrets are looked for


@dataclass(frozen=True)
class Outcome:
    """The outcome of the work."""

    value: Any = None
    error: str | None = None  # type and text of what it raised; `None` where it is done
    traceback: str = ""  # as Python prints it
    who: Process = field(default_factory=Process.me)  # which did it, when it had

    @classmethod
    def of(cls, error: BaseException) -> Outcome:
        """The outcome of work that raised an error, without secrets: other processes log it."""
        text = "".join(traceback.format_exception_only(type(error), error)).strip()
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        text, trace = redact(text[:_MOST_READ], os.environ), redact(trace[-_MOST_READ:], os.environ)
        return cls(error=text[:_MOST_MESSAGE], traceback=trace[-_MOST_TRACEBACK:])

    @classmethod
    def read(cls, path: Path) -> Outcome | None:
        """The outcome in a file, as far as it concerns this process; ``None`` where there is no file.

        What is done is done. A failure is for the processes that lived then: one that was started later - by torchrun,
        which starts all anew, or by a retrying script - tries again.
        """
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            record = json.loads(text)
            outcome = cls(**{**record, "who": Process(**record["who"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} is not an outcome as this package writes it ({error!r}): {text[:120]!r}. HINT: processes of"
                " one run must have one version of lightning-sagemaker; remove the file if nothing else explains it."
            ) from error
        return outcome if outcome.error is None or outcome.who.at >= processes.born() else None

    @property
    def is_interruption(self) -> bool:
        """Whether Ctrl-C ended the work."""
        return (self.error or "").startswith("KeyboardInterrupt")

    def publish(self, path: Path) -> None:
        """Publish it to the other processes, completely; raises ``OSError`` if it cannot be written."""
        write(path, asdict(self))

    def explain(self, label: str) -> str:
        """The error message in the processes that did not do the work."""
        if self.who.is_me:
            told = f"{label} has already failed in this process ({self.who}): {self.error}"
        else:
            told = f"{label} failed in another process ({self.who}): {self.error}"
        hint = "HINT: the cause is there; processes of this run do not try again, unless `retry` says so."
        return f"{told}\n{hint}\n{self.traceback}"
