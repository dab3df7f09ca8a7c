"""The failure file: why a job failed, for SageMaker's job page.

SageMaker shows the first 1,024 characters of ``/opt/ml/output/failure`` as the job's failure reason (developer guide,
your-algorithms-training-algo-output). The toolkit and SDK v3's drivers write it only where there is none yet, and only
know the tail of the log. Here the rank that failed writes it, and the first one on a host stays. Secrets are taken out.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
import time
import traceback
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from lightning_sagemaker.changes import is_on
from lightning_sagemaker.distributed.background import run_with_limit
from lightning_sagemaker.environment import is_helper, mark_script, process_group
from lightning_sagemaker.job import SageMakerJob, base_dir, host_name
from lightning_sagemaker.temporary_files import complete_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

# Explains a lost connection to another rank, or returns an empty text; the heartbeat of the default group can.
explain_lost_connection: Callable[[], str] = str  # which returns an empty text
LIMIT = 1024  # characters that the job page shows
_PATIENCE = 3.0  # seconds that a dying process may spend on asking the others
_COURTESY = 1.0  # seconds by which a mere consequence lets the cause come first
_MOMENT = 0.1  # seconds; torchrun ends this process soon
_HELPER = "[in a process that the training script started]"  # which may tolerate that it failed
# Of a process that fails because its helper has failed: the helper's own text is the cause.
_NO_CAUSE = (
    "subprocess.CalledProcessError",
    "torch.multiprocessing.spawn.ProcessExitedException",
    "concurrent.futures.process.BrokenProcessPool",
    "RuntimeError: DataLoader worker",
)
_REPORT = "_lightning_sagemaker_report"  # attribute of an exception that another process has reported
# Signs of a consequence: what gloo, NCCL and the store say where another rank has gone.
_LOST = ("connection reset", "connection closed", "connection was", "broken pipe", "remote process exited", "aborted")


def report(text: str) -> bool:
    """Write why this process failed, unless another of this host, no helper, has already; whether this text stands."""
    if not is_on("failure_file"):
        return False
    path, there = base_dir(os.environ) / "output" / "failure", ""
    with suppress(OSError):
        there = path.read_text(encoding="utf-8", errors="replace")
    replaces = there.endswith(_HELPER) and not is_helper()
    if replaces and text.startswith(_NO_CAUSE):  # no longer at the end, the mark lets nobody replace the cause
        text = f"{there}\nfor which the script failed: {text}"
    try:
        with complete_file(path, replaces=replaces) as file:
            file.write(_public(text).encode(errors="replace"))
    except OSError:
        return False  # not first, or no folder: the error itself goes its own way
    return True


def report_to_all(text: str) -> None:
    """Write why this process ends the job, and let the other ranks report this reason instead of its consequences."""
    report(text)
    _first_of_the_world(_public(text, LIMIT // 2), wait=0.0)


@functools.cache
def report_exceptions() -> None:
    """Report an exception that ends this process, with host and rank, before Python prints it."""
    before = sys.excepthook
    mark_script()

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        # Not Ctrl+C, and not a torchrun agent that is told to end: whoever told it knows why.
        if isinstance(error, Exception) and kind.__name__ != "SignalException":
            _report(error)
        before(kind, error, trace)

    sys.excepthook = hook


def report_exit(error: SystemExit) -> None:
    """Report ``sys.exit("reason")`` in a training: no hook hears of it, and the other ranks lose their connections."""
    if type(error) is SystemExit and error.code not in (None, 0):  # Lightning's own is that of SIGTERM
        _report(error)


def _report(error: BaseException) -> None:
    if is_on("failure_file"):
        with suppress(Exception):
            text = failure_report(error)
            report(f"{_public(text, LIMIT // 2)}\n{_HELPER}" if is_helper() else text)


def host_and_rank() -> str:
    """Host and rank of this process, in words."""
    try:
        job = SageMakerJob.detect()
    except (OSError, ValueError):  # perhaps this is what is being reported
        job = None
    host = host_name(os.environ) or socket.gethostname()
    rank: object = job.rank if job and job.rank is not None else os.environ.get("RANK")
    if group := process_group():
        rank = group.get_rank()  # spawned and forked ranks are in no variable
    return host if rank is None else f"{host}, rank {rank}"


def failure_report(error: BaseException, *, courtesy: float = _COURTESY) -> str:
    """Text of the failure file for an exception: the first failure of the world, with host, rank and frames."""
    if told := str(getattr(error, _REPORT, "")):
        return told
    where, what = host_and_rank(), describe(error)
    lost = any(sign in what.lower() for sign in _LOST)
    text = f"{what}\n[{where}]\n{_frames(error)}"
    if lost and (cause := _cause_of_lost_connection()):
        text = f"{cause}\n[seen on {where}, as: {what}]"
        lost = False
    beginning = _public(text, LIMIT // 2)
    first = _first_of_the_world(beginning, wait=courtesy if lost else 0.0)
    return text if first in ("", beginning) else f"{first}\n\n...after which here, on {where}: {what}"


def attach_report(error: Exception, text: str) -> None:
    """Let an exception be reported by the :func:`failure_report` of another process, where it comes from."""
    setattr(error, _REPORT, text)


def killed(rank: int, host: str, pid: int) -> str:
    """Message about a process that ended without an exception."""
    return (
        f"RuntimeError: rank {rank} on {host} (process {pid}) ended without an exception. Usual cause: the system"
        " killed it, because the host ran out of memory. HINT: look at the end of its log, and at the instance's memory"
        " in CloudWatch."
    )


def _cause_of_lost_connection() -> str:
    """Known cause of a lost connection; a killed process closes its connections before it is seen to have ended."""
    until = time.monotonic() + _MOMENT
    while not (cause := explain_lost_connection()) and time.monotonic() < until:
        time.sleep(_MOMENT / 20)
    return cause


def describe(error: BaseException) -> str:
    """Type and message of an exception, as Python prints them."""
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def _frames(error: BaseException) -> str:
    """Frames of an exception: the user's own and the innermost first, since the end of the text may be cut off."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    # Python's own of an import or of `python -m` stand between the user's, and tell nothing.
    told = [frame for frame in frames if not frame.filename.startswith("<frozen ")]
    own_first = sorted(told, key=lambda frame: "site-packages" in frame.filename)
    return "\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in own_first)


def _public(text: str, limit: int = LIMIT) -> str:
    from lightning_sagemaker.redaction import redact  # its patterns take as long as all else here

    # Cut before, since a message may be as long as a batch; and after, since of half a secret nothing tells what it is.
    return redact(text[: 64 * LIMIT], os.environ)[:limit]


def _first_of_the_world(text: str, wait: float) -> str:
    """Text of the first rank that failed, perhaps this one; empty if the store has gone with its host."""
    if process_group() is None:
        return ""
    from lightning_sagemaker.distributed.store import own_connection, write_first

    def ask() -> str:
        time.sleep(wait)
        store = own_connection(timedelta(seconds=_PATIENCE))
        return "" if store is None else write_first(store, "failure", text)

    return run_with_limit(ask, _PATIENCE) or ""
