"""``once_per_node``: the first process of a host does the work, all others get its value or its error, from a file.

The file is not flushed to the device (``fsync``): a process that dies takes nothing of it along, since it is the
kernel's by then, and after a crash of the machine the container is another one, and looks elsewhere.
"""

from __future__ import annotations

import functools
import json
import os
import traceback
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, overload

from lightning_sagemaker import processes
from lightning_sagemaker.locking.directory import Process, write
from lightning_sagemaker.locking.lock import DEFAULT_TIMEOUT, Lock
from lightning_sagemaker.messages import log
from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
_MOST_BYTES = 64 * 1024  # of a value as JSON: the outcome of work is a file and its name, not its content
_MOST_MESSAGE, _MOST_TRACEBACK = 2_000, 8_000  # characters, of an error
_MOST_READ = 64_000  # characters of it in which secrets are looked for


@overload
def once_per_node(fn: Callable[[], T], /, *, key: str, timeout: float = ..., retry: int = ...) -> T: ...
@overload
def once_per_node(
    *, key: str, timeout: float = ..., retry: int = ...
) -> Callable[[Callable[[], T]], Callable[[], T]]: ...
def once_per_node(
    fn: Callable[[], Any] | None = None, /, *, key: str, timeout: float = DEFAULT_TIMEOUT, retry: int = 0
) -> Any:
    """Call a function in one process of this host; all processes get its value or its error.

    The first process that arrives does the work, no fixed leader, and no process group is needed. The others wait; if
    the one at work is killed, the next takes over. Called again, in this or another process of the same run, it returns
    the same value at once. Without ``fn`` it returns a decorator; the decorated function takes no arguments, since the
    key would not tell their values apart.

        >>> path = once_per_node(download, key="tokenizer", timeout=600)  # doctest: +SKIP

    Args:
        fn: The work: a function without arguments. Its value must be JSON (what JSON changes, such as a tuple to a
            list, is changed for all processes, also the one at work) of at most 64 KiB.
        key: Names the work; other processes of the same run on this host go by it. See ``docs/locking.md``.
        timeout: Seconds to wait for others; the work itself has no limit. ``math.inf`` for none.
        retry: How often the process at work tries again after an error, before it tells the others.

    Raises:
        RuntimeError: The work failed in another process, or before; the message names type and text of the error, host,
            rank and pid, and holds the traceback. Or this thread is at this work already; or a parent that forked this
            process.
        TimeoutError: Another process is at work for so long; the message names it.
        TypeError: The value is not JSON (where the work was done), or an argument is of a wrong type.
        ValueError: The value is too large, the key empty, a number negative, or the job's description malformed.
        OSError: There is no safe place for the lock, see :func:`lock_directory`, or no room for the value.
        BaseException: Whatever ``fn`` raises, in the process that did the work.
    """
    if isinstance(retry, bool) or not isinstance(retry, int):
        raise TypeError(f"once_per_node got retry={retry!r}; expected a whole number. HINT: retry=2 tries three times.")
    if retry < 0:
        raise ValueError(f"once_per_node got retry={retry}; expected 0 or more. HINT: retry=2 tries three times.")
    if fn is None:
        return lambda work: functools.wraps(work)(lambda: once_per_node(work, key=key, timeout=timeout, retry=retry))
    if not callable(fn):
        raise TypeError(f"once_per_node got {fn!r}; expected a function. HINT: once_per_node(fn, key=...)")
    return _once(fn, Lock(key, timeout, "once_per_node"), retry)


def _once(fn: Callable[[], Any], lock: Lock, retry: int) -> Any:
    path, start = lock.beside(".outcome"), processes.clock()
    outcome: Outcome | None = None

    def is_known() -> bool:
        nonlocal outcome
        outcome = Outcome.read(path)
        was_interrupted = outcome is not None and (outcome.error or "").startswith("KeyboardInterrupt")
        if outcome and was_interrupted and outcome.who.is_me and outcome.who.at < start:
            outcome = None  # a notebook's cell, run again
        return outcome is not None

    try:
        if lock.acquire(is_known) and not is_known():
            return _work(fn, lock, path, retry)
    finally:
        lock.release()
    assert outcome is not None, "it is known"  # noqa: S101 - narrows the type
    if outcome.error is not None:
        raise RuntimeError(outcome.explain(lock.label))
    return outcome.value


def _work(fn: Callable[[], Any], lock: Lock, path: Path, retry: int) -> Any:
    if lock.left_by is not None:
        text = "%s: %s takes over, since the process at work ended without an outcome: %s"
        log.warning(text, lock.label, Process.me(), lock.left_by.hold)
    try:
        value = _value(_tried(fn, lock, retry), lock)
    except BaseException as error:
        if lock.is_held:
            try:
                Outcome.of(error).publish(path)
            except OSError:
                log.exception("%s failed, and the others cannot be told, so they will try it again.", lock.label)
        raise
    if not lock.is_held:
        raise RuntimeError(
            f"{lock.label}: pid {os.getpid()} was forked inside the work and came out of it, where only its parent may."
            " HINT: end such a child by os._exit(), or use subprocess or multiprocessing."
        )
    Outcome(value).publish(path)
    return value


def _tried(fn: Callable[[], Any], lock: Lock, retry: int) -> Any:
    for again in range(retry, 0, -1):
        try:
            return fn()
        except Exception as error:  # noqa: PERF203 - the loop is for errors
            if not lock.is_held:
                raise
            log.warning("%s failed and is tried again (at most %d times): %r", lock.label, again, error, exc_info=True)
    return fn()


def _value(value: object, lock: Lock) -> Any:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"{lock.label}: the work returned a {type(value).__qualname__}, which JSON cannot hold ({error}); expected"
            " None, bool, int, float, str, or lists and dicts of them. HINT: write the result to a file and return its"
            " path."
        ) from error
    if len(text) > _MOST_BYTES:
        raise ValueError(
            f"{lock.label}: the work returned {len(text)} bytes of JSON; expected at most {_MOST_BYTES}. HINT: write"
            " the result to a file and return its path."
        )
    return json.loads(text)


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
        """The outcome in a file, as far as it concerns this process; ``None`` where there is no file."""
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
        # A failure is for those that lived then: one that torchrun or a retrying script started later tries again.
        return outcome if outcome.error is None or outcome.who.at >= processes.born() else None

    def publish(self, path: Path) -> None:
        """Publish it to the other processes of the host; raises ``OSError`` if it cannot be written."""
        write(path, asdict(self))

    def explain(self, label: str) -> str:
        """The error message in the processes that did not do the work."""
        what = "has already failed in this process" if self.who.is_me else "failed in another process"
        return (
            f"{label} {what} ({self.who}): {self.error}\nHINT: the cause is there; processes of this run do not try"
            f" again, unless `retry` says so.\n{self.traceback}"
        )
