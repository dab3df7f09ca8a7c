"""SIGTERM in Lightning's Trainer: its handler, and the check at each training batch. In SageMaker training jobs.

``SIGTERMException`` is a ``SystemExit``, and Lightning raises it without an exit code: success, to SageMaker. Versions
from 2.5.2 on ask rank 0 before each batch (``_broadcast_sigterm_tensor``), from 2.5.6 on also in the signal handler.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary

from lightning_sagemaker.distributed.failure_file import report, report_to_all
from lightning_sagemaker.environment import SageMakerEnvironment, process_group
from lightning_sagemaker.messages import say
from lightning_sagemaker.patches import wrap

if TYPE_CHECKING:
    from types import FrameType

    from lightning_sagemaker.distributed.sigterm import Stop, StopAgreement

_CHILDREN_END = 10.0  # seconds in which children end that stopped with their parent
# By signal connector, while its Trainer fits.
_agreements: WeakKeyDictionary[object, StopAgreement] = WeakKeyDictionary()


def patch_signal_connector(module: Any) -> None:
    """Let all ranks agree on where SIGTERM stops the training."""
    connector_class = module._SignalConnector

    @wrap(connector_class, "register_signal_handlers")
    def register_signal_handlers(register: Any, connector: Any) -> None:
        register(connector)
        if _is_ours(connector) and connector.trainer.state.fn == "fit":
            _agree(connector)

    @wrap(connector_class, "_sigterm_notifier_fn")
    def _sigterm_notifier_fn(notify: Any, connector: Any, signum: int, frame: FrameType | None) -> None:
        if connector in _agreements:
            if not _agreements[connector].request():  # in a forked process, say
                signal.signal(signum, signal.SIG_DFL)
                os.kill(os.getpid(), signum)
        elif _is_ours(connector) and connector.trainer.state.fn != "fit":
            _end_at_once(connector, signum, frame)
        else:
            notify(connector, signum, frame)

    @wrap(connector_class, "teardown")
    def teardown_handlers(teardown: Any, connector: Any) -> None:
        teardown(connector)
        _leave(connector, _agreements.pop(connector, None))


def patch_training_epoch_loop(module: Any) -> None:
    """Begin each training batch with a step boundary, which replaces Lightning's broadcast."""
    loop_class = module._TrainingEpochLoop

    @wrap(loop_class, "advance")
    def stop_or_advance(advance: Any, loop: Any, fetcher: Any) -> None:
        agreement: Any = _agreements.get(loop.trainer._signal_connector)
        stop, accumulates = agreement.stop_here() if agreement else None, loop.trainer.accumulate_grad_batches
        # Gradients that have been accumulated so far are in no checkpoint. And where it would resume with a validation,
        # training goes on until the next optimizer step, but not further: it may validate after each one.
        if (
            stop
            and loop.batch_progress.current.ready % accumulates == 0
            and (agreement.passed - stop.boundary >= accumulates or not _resumes_with_validation(loop, fetcher))
        ):
            _end(loop.trainer, agreement.origin, stop, module.SIGTERMException)
        advance(loop, fetcher)

    if hasattr(loop_class, "_broadcast_sigterm_tensor"):

        @wrap(loop_class, "_broadcast_sigterm_tensor")
        def broadcast_sigterm_tensor(broadcast: Any, loop: Any) -> None:
            if loop.trainer._signal_connector not in _agreements:
                broadcast(loop)


def _resumes_with_validation(loop: Any, fetcher: Any) -> bool:
    """Whether a training that resumes at this batch would begin with the end of the batch before, and its validation.

    Batch 0 is such a one where an epoch ends with validation. With validation by time the ranks' clocks would differ.
    """
    by_time = getattr(loop.trainer, "_val_check_time_interval", None) is not None
    return not by_time and bool(loop._should_check_val_fx(fetcher))


def _is_ours(connector: Any) -> bool:
    """Whether the Trainer runs in the job's world: with another environment, stock Lightning handles SIGTERM."""
    return isinstance(connector.trainer._accelerator_connector.cluster_environment, SageMakerEnvironment)


def _agree(connector: Any) -> None:
    """Take part in the agreement of the ranks that fit together."""
    from lightning_sagemaker.checkpoint import checkpoint_folder
    from lightning_sagemaker.distributed.sigterm import agreement

    trainer = connector.trainer
    if trainer.world_size > 1 and process_group() is None:
        return  # Lightning's own way, as outside of jobs
    job = trainer._accelerator_connector.cluster_environment.current_job()
    job = replace(job, rank=trainer.global_rank, world_size=trainer.world_size)
    if (found := agreement(job, checkpoint_folder)) is not None:
        _agreements[connector] = found


def _leave(connector: Any, agreement: StopAgreement | None) -> None:
    """Clean up after Lightning has restored the previous handlers."""
    if agreement is None or not agreement.origin:
        return
    if connector.received_sigterm:  # a launcher that sees the first rank go sends it to the others
        connector._register_signal(signal.SIGTERM, signal.SIG_IGN)
    elif connector.trainer.is_global_zero:
        say(
            "SIGTERM arrived on %s after the training had ended. A later one stops before its first step.",
            agreement.origin,
        )


def _end(trainer: Any, origin: str, stop: Stop, exception: type[SystemExit]) -> NoReturn:
    """Stop the training; all ranks call this at the same batch."""
    from lightning_sagemaker.checkpoint.newest import SIGTERM_NAME
    from lightning_sagemaker.checkpoint.place import candidate_places, persistent_place
    from lightning_sagemaker.distributed.sigterm import EXIT_CODE

    trainer._signal_connector.received_sigterm = True
    _outlive_children(trainer.strategy.launcher)
    if stop.folder:
        name = SIGTERM_NAME.format(epoch=trainer.current_epoch, step=trainer.global_step)
        path = Path(persistent_place(next(candidate_places(trainer)), Path(stop.folder)).folder, name)
        trainer.save_checkpoint(path)
        saved = f"Checkpoint: {path}."
    else:
        saved = (
            "No checkpoint was written, as the job has no folder for them. HINT: give it a place for checkpoints in S3"
            " (CheckpointConfig, or checkpoint_s3_uri)."
        )
    text = (
        f"SIGTERM ended the training; it arrived on {origin}. All ranks stopped at step {trainer.global_step}, epoch"
        f" {trainer.current_epoch}. {saved}"
    )
    report(text)
    if trainer.is_global_zero:
        # The entry of `@remote` ends by `finally: sys.exit(0)` (invoke_function.py of SDK v2 and v3).
        remote = any(".remote_function" in name for name in tuple(sys.modules))
        code = "0, as `@remote` ends whatever happens" if remote else f"{EXIT_CODE}"
        say("%s Exit code: %s.", text, code)
    raise exception(EXIT_CODE)


def _end_at_once(connector: Any, signum: int, frame: FrameType | None) -> None:
    """End ``validate``, ``test`` or ``predict``: there is nothing to save, and the others end as when a rank dies."""
    from lightning_sagemaker.distributed.sigterm import EXIT_CODE

    trainer = connector.trainer
    host = trainer._accelerator_connector.cluster_environment.job.current_host
    here = f"{host}, rank {trainer.global_rank}"
    report_to_all(f"SIGTERM ended `Trainer.{trainer.state.fn.value}`; it arrived on {here}.")
    if trainer.strategy.launcher is not None:
        trainer.strategy.launcher.kill(signum)
        _outlive_children(trainer.strategy.launcher)
    for handler in getattr(signal.getsignal(signum), "signal_handlers", [])[1:]:  # after ours, those of the user
        handler(signum, frame)
    raise SystemExit(EXIT_CODE)


def _outlive_children(launcher: Any) -> None:
    """If this process started others with Lightning's launcher, end after them.

    Lightning's observer would kill this process as soon as a child has ended by an exit code that is not 0.
    """
    children = [child for child in getattr(launcher, "procs", ()) if isinstance(child, subprocess.Popen)]
    if not children:
        return
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []  # type: ignore[attr-defined]
    atexit.register(_wait_for, children)


def _wait_for(children: list[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + _CHILDREN_END
    while any(child.poll() is None for child in children) and time.monotonic() < until:
        time.sleep(0.05)
    for child in children:
        child.kill()  # does nothing to one that has ended
