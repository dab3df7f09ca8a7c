"""Waiting for the main address, on every host but the one of rank 0."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lightning_sagemaker.distributed.connection import Answer, is_loopback, try_to_connect
from lightning_sagemaker.distributed.lines import EVERY, FIRST_LINE, VARIABLE, blocked
from lightning_sagemaker.distributed.peer_notifier import PeerNotifier
from lightning_sagemaker.job.values import some
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from lightning_sagemaker.job import SageMakerJob

_OTHER_PORT = 22  # any port will do: a host that is up refuses what it does not serve
_PAUSE = 0.05, 1.0  # seconds between attempts where the host answers at once: the first, the longest


def wait_for_main_address(job: SageMakerJob, limit: float, timeout: float, *, speaks: bool) -> None:
    """Wait until something listens at the main address.

    Args:
        job: The job, with main address and port.
        limit: Seconds of no answer at all after which the address counts as blocked.
        timeout: Seconds that the whole wait may take.
        speaks: Whether this process is the one of its host that says what it waits for.

    Raises:
        ConnectionError: The address is blocked.
        TimeoutError: The process group's time is over.
    """
    notifier = PeerNotifier(job.current_host, job.main_port) if speaks else None
    try:
        _wait(job, limit, timeout, notifier)
    except ConnectionError as error:
        if notifier is not None:
            notifier.notify_last(str(error))
        raise
    finally:
        if notifier is not None:
            notifier.close()


def _wait(job: SageMakerJob, limit: float, timeout: float, notifier: PeerNotifier | None) -> None:
    address, port = job.main_address, job.main_port
    start = last_line = time.monotonic()
    silent_since: float | None = None
    pause, alarmed = _PAUSE[0], False
    while True:
        asked = time.monotonic()
        answer = try_to_connect(address, port)
        if answer is Answer.OPEN:
            return
        now = time.monotonic()
        silent_since = (asked if silent_since is None else silent_since) if answer is Answer.SILENT else None
        silence = 0.0 if silent_since is None else now - silent_since
        unknown = answer is Answer.UNKNOWN_NAME  # a name may be wrong for good: said soon, once
        if silence >= limit:
            raise ConnectionError(_silence(job, silence))
        if now - start >= timeout:
            raise TimeoutError(
                f"{job.current_host} waited {timeout:.0f} s, the process group's time limit, for {address}:{port},"
                f" where rank 0 should listen: {_state(job, answer)}. HINT: look at the log of that host; where hosts"
                " start later than that, give the strategy a longer `timeout`."
            )
        if notifier is not None and not alarmed and silence >= FIRST_LINE:
            alarmed, last_line, text = True, now, _silence(job, silence)
            log.warning("%s The job ends after %.0f s of this (%s).", text, limit, VARIABLE)
            notifier.notify(text)
        elif notifier is not None and now - last_line >= (FIRST_LINE if unknown and last_line == start else EVERY):
            last_line = now
            waits = "%s waits for %s:%d (rank 0), %.0f s so far: %s."
            log.warning(waits, job.current_host, address, port, now - start, _state(job, answer))
        time.sleep(pause)
        pause = min(2 * pause, _PAUSE[1])


def _silence(job: SageMakerJob, seconds: float) -> str:
    other = try_to_connect(job.main_address, _OTHER_PORT)
    tried = (
        f"its port {_OTHER_PORT} does not answer either"
        if other is Answer.SILENT
        else f"the host is up, since its port {_OTHER_PORT} answers, so this port is blocked"
    )
    there = job.world_hosts[0] if job.main_address not in job.hosts else job.main_address
    return blocked(
        job.current_host,
        there,
        f"{job.main_address}:{job.main_port}",
        seconds,
        tried=tried,
        interface=job.network_interface,
    )


def _state(job: SageMakerJob, answer: Answer) -> str:
    if answer is Answer.REFUSED and is_loopback(job.main_address):
        return (
            f"nothing listens there, and {job.main_address!r} means this very host, which is not the one of rank 0."
            " HINT: is MASTER_ADDR set by hand? SageMaker's own value is right"
        )
    if answer is Answer.UNKNOWN_NAME and job.main_address not in job.hosts:
        return (
            f"its name is not known, and it is none of the job's hosts ({some(job.hosts)})."
            " HINT: is MASTER_ADDR set by hand? SageMaker's own value is right"
        )
    return answer.value
