"""SIGTERM, failures and checkpoints of ranks that Lightning starts by ``multiprocessing`` in training jobs.

They are spawned, forked, or started in a notebook. The process that starts them is the script's or the kernel's own,
and no rank: it only sees how they end.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.changes import is_on
from lightning_sagemaker.checkpoint import resume
from lightning_sagemaker.distributed.failure_file import attach_report, failure_report, killed
from lightning_sagemaker.environment import SageMakerEnvironment, mark_script
from lightning_sagemaker.patches import rank_zero, wrap
from lightning_sagemaker.patches.environment import note_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_FOLDER = "_lightning_sagemaker_folder"  # attribute of a launcher: folder in which ranks tell what they leave


def patch_launcher(module: Any) -> None:
    """End the script as its rank ended: with the rank's own error in the failure file, or SIGTERM's exit code."""

    @wrap(module._MultiProcessingLauncher, "launch")
    def launch_and_report(launch: Any, launcher: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(launcher._strategy.cluster_environment, SageMakerEnvironment):
            return launch(launcher, *args, **kwargs)
        note_world(launcher._strategy.cluster_environment.world_size())
        ends_together = hasattr(launcher, "procs") and is_on("sigterm")  # a Trainer's: Fabric's ranks agree on nothing
        try:
            with _folder(launcher), _sigterm(launcher) if ends_together else nullcontext():
                return launch(launcher, *args, **kwargs)
        finally:
            mark_script()  # anew, as Lightning has set MASTER_PORT

    @wrap(module._MultiProcessingLauncher, "_wrapping_function")
    def run_and_report(run: Any, launcher: Any, /, process_idx: int, *args: Any, **kwargs: Any) -> None:
        rank_zero.leave_to_strategies()  # a spawned process has imported Lightning before it knew its rank
        if isinstance(signal.getsignal(signal.SIGTERM), _Forward):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a forked one
        folder: Any = getattr(launcher, _FOLDER, None)
        counts = bool(folder) and resume.load_trainings(folder, as_rank=True)
        try:
            run(launcher, process_idx, *args, **kwargs)
        except Exception as error:
            if folder and is_on("failure_file"):
                with suppress(OSError):
                    Path(folder, str(process_idx)).write_text(failure_report(error), encoding="utf-8", errors="replace")
            raise
        finally:
            if counts and process_idx == 0:
                resume.save_trainings(folder)


@contextmanager
def _folder(launcher: Any) -> Iterator[None]:
    """Give the ranks a folder: for their errors, in case they reach the failure file, and the Trainers that fit there.

    torch's own text of an error begins with the outermost frames of torch and Lightning, and is cut before the error.
    """
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    counts = hasattr(launcher, "procs") and resume.is_asked_for()  # a Trainer's
    if not is_on("failure_file") and not counts:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="lightning_sagemaker-") as folder:
        setattr(launcher, _FOLDER, folder)
        if counts:
            resume.save_trainings(folder)
        try:
            yield
        except ProcessRaisedException as error:
            with suppress(OSError):
                attach_report(error, Path(folder, str(error.error_index)).read_text(encoding="utf-8"))
            raise
        except ProcessExitedException as error:
            if error.exit_code < 0:
                job, processes = launcher._strategy.cluster_environment.job, launcher._strategy.num_processes
                rank = job.node_rank * processes + error.error_index
                attach_report(error, killed(rank, job.current_host, error.error_pid))
            raise
        finally:
            delattr(launcher, _FOLDER)
            resume.load_trainings(folder, as_rank=False)


class _Forward:
    """A signal handler that forwards the signal to a launcher's processes, or takes the default action without any."""

    def __init__(self, launcher: Any) -> None:
        self._launcher = launcher
        self.is_done = False

    def __call__(self, signum: int, _frame: FrameType | None) -> None:
        if any(process.is_alive() for process in self._launcher.procs):
            self.is_done = True
            self._launcher.kill(signum)
        else:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)


@contextmanager
def _sigterm(launcher: Any) -> Iterator[None]:
    """Forward SIGTERM to the ranks, which agree on where to stop, and end with their exit code.

    A handler of the script's own stays.
    """
    from torch.multiprocessing.spawn import ProcessExitedException

    from lightning_sagemaker.distributed.sigterm import EXIT_CODE

    forward = _Forward(launcher)
    is_main = threading.current_thread() is threading.main_thread()
    is_free = is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if is_free:
        signal.signal(signal.SIGTERM, forward)
    try:
        yield
    except ProcessExitedException as error:
        # A rank that was still starting has no handler yet.
        if error.exit_code == EXIT_CODE or (forward.is_done and error.exit_code == -signal.SIGTERM):
            raise SystemExit(EXIT_CODE) from error
        raise
    finally:
        if is_free:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
