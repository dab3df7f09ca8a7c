"""The heartbeat: finds processes that were stopped and hosts that were cut off.

Stock torch copes with deaths and not with silence: the others wait in a collective up to its time limit, half an hour,
and then learn neither who nor when. Here threads beside the training watch each other:

* the first two processes of each host send heartbeats to the store, and the first reads those of the next host;
* each process checks whether the next process of its own host is stopped (``/proc``).

Long work in one process - writing a checkpoint, validation, compilation - is no silence: threads go on. So does a
process that waits in a Python debugger; one that a native debugger holds is stopped, hence the off switch. Time in
which the observer itself did not run (Python's lock was held, its container was frozen) counts for nobody.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from lightning_sagemaker import processes
from lightning_sagemaker.distributed import background, failure_file
from lightning_sagemaker.distributed.peers import Hosts, Siblings
from lightning_sagemaker.distributed.shutdown import at_exit
from lightning_sagemaker.distributed.store import (
    PrefixStore,
    end_of_group,
    own_connection,
    prefixed,
    server_of_group,
    write,
)
from lightning_sagemaker.messages import log
from lightning_sagemaker.settings import HEARTBEAT, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker.distributed.store import Store
    from lightning_sagemaker.job import SageMakerJob

_INTERVAL = 5.0  # seconds between two checks, and shares of the limit where that is short: a tenth, ...
_HOSTS_PER_SECOND, _LONGEST = 75, 15.0  # with many hosts: as many send heartbeats in a second, up to so many seconds
_STOPPED = 20.0  # seconds after which a stopped process is named, ... a third,
_SILENT = 40.0  # seconds after which a silent host is named; with two intervals, under 60 s. ... half
_MISSED = 5  # intervals that this is at least, with many hosts
_SENDERS = 2  # processes of a host that send heartbeats, so that one which holds Python's lock for long is no silence
SECOND_EVERY = 3  # intervals between two heartbeats of the second one: less than the shortest silence that is named
_MPI_DAEMONS = ("mpirun", "mpiexec", "orted", "prterun", "prted", "orterun")  # of Open MPI 4 and 5
_GOODBYE = 2.0  # seconds that the end of a process may take on telling the others
_UNKNOWN_STEP = "the step is not known"

_current: Heartbeat | None = None
_numbers = itertools.count()  # all ranks make their groups in the same order; a later one must not read older keys


def _progress() -> tuple[int | None, bool]:
    """Number of optimizer steps so far, and whether the ranks train; replaced once a Trainer knows it."""
    return None, True


def start(job: SageMakerJob) -> None:
    """Watch the processes of the default process group until it ends or is replaced."""
    global _current  # noqa: PLW0603 - there is one default process group
    limit = seconds(HEARTBEAT)  # of silence after which the job ends; 0 switches it off
    if _current is not None:
        _current.stop()
        _current = None
    rank, per_host = job.rank or 0, (job.world_size or 1) // job.num_nodes
    sends = job.num_nodes > 1 and job.local_rank < _SENDERS
    if not limit or not (sends or per_host > 1):
        return
    prefix = f"heartbeat/{next(_numbers)}"
    try:
        if (server := server_of_group()) is None:
            return
        # The others ask a few times and need no connection for that; rank 0's own would keep the server from its end.
        # All by the same keys: the default group's store has prefixes of torch's and of torchrun's before ours.
        connection = own_connection(timedelta(seconds=limit)) if sends or rank == 0 else prefixed(server)
        if connection is None:
            return
        store = PrefixStore(prefix, connection)
        write(store, f"process/{rank}", os.getpid(), processes.start_of(os.getpid()) or "")
        others = [rank - job.local_rank + (job.local_rank + step) % per_host for step in range(1, per_host)]
        hosts = Hosts(job, store, partial(_connect_anew, prefix)) if sends else None
        _current = Heartbeat(job, Siblings(store, others), hosts, limit)
    except RuntimeError as error:  # no second connection: the training needs none
        background.warn_lost(_lost(job), error)
        return
    failure_file.explain_lost_connection = _current.explain_lost_connection
    at_exit(_current.stop)


def tell_progress(progress: Callable[[], tuple[int | None, bool]]) -> None:
    """Give the heartbeat a function that returns the Trainer's step, for messages, and whether it runs on all ranks."""
    global _progress  # noqa: PLW0603
    _progress = progress


def interval(hosts: int, limit: float) -> float:
    """Seconds between two heartbeats of a host; longer with more hosts."""
    return min(max(_INTERVAL, min(hosts / _HOSTS_PER_SECOND, _LONGEST)), limit / 10)


def silence(interval: float, limit: float) -> float:
    """Seconds after which a silent host is named."""
    return min(max(_SILENT, _MISSED * interval), limit / 2)


class Heartbeat:
    """The two threads of one process: one talks to the store, and may hang; the other measures time and never hangs."""

    def __init__(self, job: SageMakerJob, siblings: Siblings, hosts: Hosts | None, limit: float) -> None:
        self._job = job
        self._siblings = siblings
        self._hosts = hosts
        self._limit = limit
        self._has_ended = end_of_group()
        self._interval = interval(job.num_nodes, limit)
        self._stopped = min(_STOPPED, limit / 3)
        self._silent = silence(self._interval, limit)
        self._leaving = threading.Event()
        self._awake = 0.0  # seconds that the observer has run for: its clock
        self._step, self._trains = _UNKNOWN_STEP, True
        self._stopped_since: float | None = None
        self._said: set[str] = set()
        self._sender = background.start("heartbeat-send", self._send, _lost(job), self._leave)
        background.start("heartbeat-watch", self._watch, _lost(job), lambda: None)  # this process sends on

    def stop(self) -> None:
        """Tell the other hosts that this process leaves, and stop watching them."""
        self._leaving.set()
        if self._sender.is_alive():
            self._sender.join(_GOODBYE)

    def explain_lost_connection(self) -> str:
        """Why a rank has gone, as far as this process knows; otherwise empty."""
        sibling = self._siblings.next
        if sibling is None or not sibling.has_ended():
            return ""
        return failure_file.killed(sibling.rank, self._job.current_host, sibling.pid)

    def _send(self) -> None:
        with suppress(RuntimeError):  # the store has ended, with rank 0 or with the process group: no silence
            rounds = itertools.cycle(range(SECOND_EVERY))
            while (self._siblings.missing() or self._hosts is not None) and not self._has_ended():
                self._siblings.poll()
                if self._hosts is not None and self._job.local_rank == 0:
                    self._hosts.exchange(self._awake, self._step)
                elif self._hosts is not None and next(rounds) == 0:
                    self._hosts.beat(self._step)  # in case that the first process cannot, while native code runs in it
                if self._leaving.wait(self._interval):
                    break
            if self._hosts is None:
                return  # all that the store was for is known
        with suppress(RuntimeError, OSError, ValueError):  # it has; there is no process group any more
            self._leave()

    def _leave(self) -> None:
        self._leaving.set()
        if self._hosts is not None:
            self._hosts.leave()

    def _watch(self) -> None:
        then = time.monotonic()
        while not self._leaving.wait(self._interval) and not self._has_ended():
            now = time.monotonic()
            # More than that, and it was this thread which did not run: nobody's silence.
            self._awake += min(now - then, 2 * self._interval)
            then = now
            # Here alone: where a property of the user's hangs, heartbeats go on, and this process is not called silent.
            self._step, self._trains = self._ask_progress()
            self._watch_sibling()
            if self._hosts is not None and self._job.local_rank == 0:
                self._watch_hosts(self._hosts)

    def _ask_progress(self) -> tuple[str, bool]:
        try:
            step, trains = _progress()
            return _UNKNOWN_STEP if step is None else f"at step {int(step)}", trains
        except Exception as error:  # noqa: BLE001 - the Trainer is the user's, and half made while it fails
            self._warn_once("step", f"The heartbeat cannot read the Trainer's step: {type(error).__name__}: {error}")
            return _UNKNOWN_STEP, True

    def _watch_sibling(self) -> None:
        now, here, sibling = self._awake, self._job.current_host, self._siblings.next
        if sibling is None and now >= self._stopped and (missing := self._siblings.missing()):
            self._warn_once(
                "missing",
                f"Rank {missing[0]} on {here} has not reported in the {now:.0f} s since the process group was made: it"
                f" was killed, or {HEARTBEAT} is 0 for it alone. It is not watched.",
            )
        if sibling is None or not sibling.is_stopped():
            self._stopped_since = None
            return
        self._stopped_since = now if self._stopped_since is None else self._stopped_since
        what = f"Rank {sibling.rank} on {here} (process {sibling.pid}) has been stopped by SIGSTOP or a debugger"
        self._check_silence(what, now - self._stopped_since, self._stopped, self._step)

    def _watch_hosts(self, hosts: Hosts) -> None:
        here, now = self._job.current_host, self._awake
        if hosts.ended:
            self._end(hosts.ended)
        elif now - hosts.answered >= self._silent:  # then nothing is known of the next host either
            address = f"{self._job.main_address}:{self._job.main_port}"
            what = f"{here} has received no answer from the store of rank 0 at {address}"
            self._check_silence(what, now - hosts.answered, self._silent, self._step)
        elif hosts.heard is not None and not hosts.next_left:
            what = f"{hosts.next_name} has gone silent: {here} has received no heartbeat from it"
            self._check_silence(what, now - hosts.heard, self._silent, hosts.next_step)

    def _check_silence(self, what: str, silence: float, threshold: float, step: str) -> None:
        """Warn once when a silence exceeds a threshold, and end the job when it exceeds the limit.

        Unless no Trainer runs: nobody waits for others which have left by ``os._exit`` after the training.
        """
        if not self._trains:
            return
        text = f"{what} for {silence:.0f} s ({step}). The others wait for it in their next collective."
        if silence >= threshold:
            self._warn_once(what, f"{text} The job ends after {self._limit:.0f} s of this ({HEARTBEAT}; 0: never).")
        if silence >= self._limit:
            self._end(text)

    def _warn_once(self, key: str, text: str) -> None:
        if key not in self._said:
            self._said.add(key)
            log.warning(text)

    def _end(self, text: str) -> None:
        with suppress(Exception):
            failure_file.report_to_all(f"RuntimeError: {text}\n[seen on {failure_file.host_and_rank()}]")
            log.error("RuntimeError: %s The job ends now.", text)
        if self._hosts is not None and not self._hosts.ended:
            background.run_with_limit(partial(self._hosts.end, text), _GOODBYE)
        # No exception reaches a main thread that waits in a collective. Launchers wait for a stopped process,
        # and mpirun for a host that is cut off; Lightning's would leave its processes behind.
        for sibling in tuple(self._siblings.known.values()):
            sibling.kill()
        if self._job.launcher == "mpirun":
            processes.kill_launcher(_MPI_DAEMONS)
        os._exit(1)


def _connect_anew(prefix: str) -> Store | None:
    store = own_connection(timedelta(seconds=_GOODBYE), only_if_there=True)
    return None if store is None else PrefixStore(prefix, store)


def _lost(job: SageMakerJob) -> str:
    return f"{job.current_host} no longer watches for processes that go silent."
