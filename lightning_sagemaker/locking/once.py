"""``once_per_node``: the first process of a host does the work, all others get its value or its error."""

from __future__ import annotations

import functools
import json
import os
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from lightning_sagemaker import processes
from lightning_sagemaker.locking.identity import Who
from lightning_sagemaker.locking.lock import Lock
from lightning_sagemaker.locking.node import DEFAULT_TIMEOUT, acquire, checked_timeout
from lightning_sagemaker.locking.outcome import MOST_BYTES, Failure, Outcome, Publication
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@overload
def once_per_node(fn: Callable[[], T], /, *, key: str, timeout: float = ..., retry: int = ...) -> T: ...
@overload
def once_per_node(
    *, key: str, timeout: float = ..., retry: int = ...
) -> Callable[[Callable[[], T]], Callable[[], T]]: ...
def once_per_node(
    fn: Callable[[], Any] | None = None, /, *, key: str, timeout: float = DEFAULT_TIMEOUT, retry: int = 0
) -> Any:
    """Do something in one process of this host, and give its value, or its error, to all that ask for it.

    The first process that arrives does the work, no fixed leader, and no process group is needed. The others wait, and
    wake together. If the one at work is killed, the next takes over. Called again, in this or another process of the
    same run, it returns the same value at once. Without ``fn`` it returns a decorator; the decorated function takes no
    arguments, since the key would not tell their values apart.

        >>> path = once_per_node(download, key="tokenizer", timeout=600)  # doctest: +SKIP

    Args:
        fn: The work: a function without arguments. Its value must be JSON (what JSON changes, such as a tuple to a
            list, is changed for all processes, also the one at work) of at most 64 KiB.
        key: Names the work; other processes of the same run on this host go by it. See ``docs/locking.md``.
        timeout: Seconds to wait for others; the work itself has no limit. ``math.inf`` for none.
        retry: How often the process at work tries again after an error, before it tells the others.

    Raises:
        RuntimeError: The work failed in another process; the message names type and text of the error, host, rank and
            pid, and holds the traceback. Or this thread is at this work already; or a parent that forked this process.
        TimeoutError: Another process is at work for so long; the message names it.
        TypeError: The value is not JSON (where the work was done), or an argument is of a wrong type.
        ValueError: The value is too large, the key empty, a number negative, or the job's description malformed.
        OSError: There is no safe place for the lock or no room, see :func:`lock_directory`.
        BaseException: Whatever ``fn`` raises, in the process that did the work.
    """
    limit = checked_timeout(timeout, "once_per_node")
    if isinstance(retry, bool) or not isinstance(retry, int):
        raise TypeError(f"once_per_node got retry={retry!r}; expected a whole number. HINT: retry=2 tries three times.")
    if retry < 0:
        raise ValueError(f"once_per_node got retry={retry}; expected 0 or more. HINT: retry=2 tries three times.")
    if fn is not None:
        if not callable(fn):
            raise TypeError(f"once_per_node got {fn!r}; expected a function. HINT: once_per_node(fn, key=...)")
        return _once(fn, key, limit, retry)

    def decorate(function: Callable[[], T]) -> Callable[[], T]:
        @functools.wraps(function)
        def once() -> T:
            return cast("T", _once(function, key, limit, retry))

        return once

    return decorate


def _once(fn: Callable[[], Any], key: str, timeout: float, retry: int) -> Any:  # noqa: ANN401 - JSON is of any type
    lock = Lock(key, "once_per_node")
    path = lock.beside(".outcome")
    outcome: Outcome | None = None

    def is_known() -> bool:
        nonlocal outcome
        outcome = Outcome.read(path)
        return outcome is not None and outcome.concerns_me

    if acquire(lock, timeout, is_known):
        try:
            if not is_known():
                return _work(fn, lock, retry)
        finally:
            lock.release()
    assert outcome is not None, "it is known"  # noqa: S101 - narrows the type
    if outcome.failure is not None:
        raise RuntimeError(explain(lock.label, outcome))
    return outcome.value


def _work(fn: Callable[[], Any], lock: Lock, retry: int) -> Any:  # noqa: ANN401
    me = Who.me()
    if lock.left_by is not None:
        log.warning(
            "%s: %s takes over, since the process at work ended without an outcome: %s",
            lock.label,
            me,
            lock.left_by,
        )
    with Publication(lock.beside(".outcome")) as publication:
        try:
            value = _value(_tried(fn, lock, retry), lock)
        except BaseException as error:
            if lock.is_mine:
                _tell(publication, lock, me, error)
            raise
        if lock.is_mine:
            publication.publish(Outcome(me, processes.clock(), value=value))
            lock.ring()
            return value
    raise RuntimeError(
        f"{lock.label}: pid {os.getpid()} was forked inside the work and came out of it, where only its parent may."
        " HINT: end such a child by os._exit(), or use subprocess or multiprocessing."
    )


def _tell(publication: Publication, lock: Lock, me: Who, error: BaseException) -> None:
    try:
        publication.publish(Outcome(me, processes.clock(), Failure.of(error)))
    except OSError:
        log.exception("%s failed, and the others cannot be told, so they will try it again.", lock.label)
    lock.ring()


def _tried(fn: Callable[[], Any], lock: Lock, retry: int) -> Any:  # noqa: ANN401
    for again in range(retry, 0, -1):
        try:
            return fn()
        except Exception as error:  # noqa: PERF203 - the loop is for errors
            if not lock.is_mine:
                raise
            log.warning("%s failed and is tried again (at most %d times): %r", lock.label, again, error, exc_info=True)
    return fn()


def _value(value: object, lock: Lock) -> Any:  # noqa: ANN401
    """The value as all processes get it."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"{lock.label}: the work returned a {type(value).__qualname__}, which JSON cannot hold ({error}); expected"
            " None, bool, int, float, str, or lists and dicts of them. HINT: write the result to a file and return its"
            " path."
        ) from error
    if len(text) > MOST_BYTES:
        raise ValueError(
            f"{lock.label}: the work returned {len(text)} bytes of JSON; expected at most {MOST_BYTES}. HINT: write the"
            " result to a file and return its path."
        )
    return json.loads(text)


def explain(label: str, outcome: Outcome) -> str:
    """Message of the processes that did not do the work, on its failure."""
    failure = outcome.failure
    assert failure is not None, "asked for failures only"  # noqa: S101 - narrows the type
    return (
        f"{label} failed in another process ({outcome.who}): {failure.type}: {failure.message}\n"
        "HINT: the cause is there; processes of this run do not try again, unless `retry` says so.\n"
        f"{failure.traceback}"
    )
