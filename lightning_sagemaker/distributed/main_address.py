"""The wait for rank 0's address, on all other hosts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lightning_sagemaker.distributed.connection import (
    FIRST_LINE,
    Answer,
    blocked,
    is_loopback,
    try_to_connect,
    warn_blocked,
)
from lightning_sagemaker.distributed.peer_notifier import PeerNotifier
from lightning_sagemaker.distributed.waiting import Wait
from lightning_sagemaker.job.values import some

if TYPE_CHECKING:
    from lightning_sagemaker.job import SageMakerJob

_OTHER_PORT = 22  # any port will do: a host that is up refuses what it does not serve
_BY_HAND = "HINT: is MASTER_ADDR set by hand? SageMaker's own value is right"


def wait_for_main_address(job: SageMakerJob, limit: float, timeout: float) -> None:
    """Wait until a process listens at the main address.

    ``limit`` seconds of no answer at all are a ConnectionError, ``timeout`` seconds of waiting a TimeoutError.
    """
    notifier = PeerNotifier(job.current_host, job.main_port) if job.local_rank == 0 else None
    answer = Answer.REFUSED
    silent_since: float | None = None
    has_warned = False

    def poll() -> bool | None:
        nonlocal answer, silent_since, has_warned
        asked = time.monotonic()
        answer = try_to_connect(job.main_address, job.main_port)
        if answer is not Answer.SILENT:
            silent_since = None
            if answer is Answer.UNKNOWN_NAME:  # it may be wrong for good
                wait.say_soon(FIRST_LINE)
            return True if answer is Answer.OPEN else None
        silent_since = asked if silent_since is None else silent_since
        silence = time.monotonic() - silent_since
        if silence >= limit:
            raise ConnectionError(_silence(job, silence))
        if notifier is not None and silence >= FIRST_LINE and not has_warned:
            has_warned, text = True, _silence(job, silence)
            warn_blocked(text, limit)
            notifier.notify(text)
        return None

    wait = Wait(
        job.current_host,
        lambda: f"rank 0 to listen at {job.main_address}:{job.main_port}: {_state(job, answer)}",
        limit=timeout,
        hint="HINT: look at the log of that host; where hosts start later, give the strategy a longer `timeout`.",
        speaks=job.local_rank == 0,
    )
    try:
        wait.until(poll, pauses=(0.05, 1.0))
    except ConnectionError as error:
        if notifier is not None:
            notifier.notify_last(str(error))
        raise
    finally:
        if notifier is not None:
            notifier.close()


def wait_for_agents(job: SageMakerJob, limit: float) -> None:
    """Check that the main address is still that of torchrun's agents, and that one of them listens there.

    After ``limit`` seconds it counts as another one, a ConnectionError.
    """
    start, answer, has_warned = time.monotonic(), Answer.REFUSED, False

    def poll() -> bool | None:
        nonlocal answer, has_warned
        answer = try_to_connect(job.main_address, job.main_port)
        if answer is Answer.OPEN:
            return True
        waited, text = time.monotonic() - start, _no_listener(job, answer)
        if waited >= limit:
            raise ConnectionError(text)
        if job.local_rank == 0 and waited >= FIRST_LINE and not has_warned:
            has_warned = True
            warn_blocked(text, limit)
        return None

    Wait(job.current_host, lambda: _no_listener(job, answer), speaks=False).until(poll, pauses=(1.0, 1.0))


def _no_listener(job: SageMakerJob, answer: Answer) -> str:
    return (
        f"{job.current_host} finds no process listening at {job.main_address}:{job.main_port}, though"
        f" torchrun's agents have connected ({answer.value}). HINT: was MASTER_ADDR or MASTER_PORT changed in the"
        " script? torchrun's own are right."
    )


def _silence(job: SageMakerJob, seconds: float) -> str:
    other = try_to_connect(job.main_address, _OTHER_PORT)
    tried = (
        f"its port {_OTHER_PORT} does not answer either"
        if other is Answer.SILENT
        else f"the host is up, since its port {_OTHER_PORT} answers, so this port is blocked"
    )
    there = job.world_hosts[0] if job.main_address not in job.hosts else job.main_address
    return blocked(job, there, f"{job.main_address}:{job.main_port}", seconds, tried)


def _state(job: SageMakerJob, answer: Answer) -> str:
    if answer is Answer.REFUSED and is_loopback(job.main_address):
        return (
            f"nothing listens there, and {job.main_address!r} means this very host, which is not that of rank 0."
            f" {_BY_HAND}"
        )
    if answer is Answer.UNKNOWN_NAME and job.main_address not in job.hosts:
        return f"its name is not known, and it is none of the job's hosts ({some(job.hosts)}). {_BY_HAND}"
    return answer.value
