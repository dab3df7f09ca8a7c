"""A spot interruption: when SageMaker takes the hosts of a job away, and which signals their processes receive."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_sagemaker.simulate.spec import Simulation

# A container is stopped by SIGTERM to its first process, and killed 120 s later (AWS's developer guide,
# your-algorithms-training-algo-dockerfile.md).
_STOP = 120.0


@dataclass(frozen=True)
class Interruption:
    """The end of a job's hosts.

    Args:
        after: Seconds from the start.
        number: The signal that the job's processes get.
        patience: Seconds until those that are left are killed.
    """

    after: float
    number: signal.Signals
    patience: float


def of(job: Simulation) -> Interruption | None:
    """How a job is interrupted, if it is.

    The first process of AWS's own images is a shell, which forwards no signal (sagemaker-training-toolkit#125,
    deep-learning-containers#632): the script sees nothing of an interruption and is killed in the end.
    """
    if job.interrupt_after is None:
        return None
    if job.interrupt_by == "sigterm":
        return Interruption(job.interrupt_after, signal.SIGTERM, _STOP)
    return Interruption(job.interrupt_after, signal.SIGKILL, 0.0)
