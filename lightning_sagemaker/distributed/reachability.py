"""Whether hosts reach rank 0's address, and each the next host on an arbitrary port; if not: a warning, then an error.

Collectives open connections between all hosts, on ports that the system chooses. Where a network lets only the main
port through, gloo waits for five times its time limit and then names neither host nor port (measured, torch 2.13).

A host that cannot reach rank 0 says so: rank 0 can often reach that host, and its log is the one people read. On hosts
other than rank 0's the main port is free: who waits in vain listens on it, and says why. Anybody may connect there and
say anything: nobody is waited for longer than :data:`PATIENCE`, nor is another one kept waiting.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from lightning_sagemaker.distributed.interface import is_loopback
from lightning_sagemaker.distributed.store import LONGEST, Arrival, decode, encode, read, write
from lightning_sagemaker.distributed.waiting import Wait, leave_store
from lightning_sagemaker.job.values import some
from lightning_sagemaker.messages import log
from lightning_sagemaker.settings import REACHABILITY

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker.distributed.store import Store
    from lightning_sagemaker.job import SageMakerJob

PATIENCE = 1.5  # seconds: Linux sends the second SYN after 1 s, so one lost packet is no silence
_FAREWELL = 5.0  # seconds that a host waits for rank 0 to hear its final text
_HEARD = encode("heard").encode()  # a mere attempt to connect says nothing
_AT_ONCE = 64  # connections that are served; those beyond are closed
_PAUSE = 0.1  # seconds after a connection that could not be accepted
FIRST_LINE = 3.0  # seconds of silence, two attempts, before it is said
_OTHER_PORT = 22  # any port will do: a host that is up refuses what it does not serve
_BY_HAND = "HINT: is MASTER_ADDR set by hand? SageMaker's own value is right"


class Answer(Enum):
    """Outcome of an attempt to connect: one that drops packets does not look like one where nobody listens yet."""

    OPEN = "something listens there"
    REFUSED = "the host answers, but its process is not there yet"
    UNKNOWN_NAME = "its name is not known yet: its container is not up"
    SILENT = "no answer at all: packets are dropped on the way, or the host is not there"


def try_to_connect(host: str, port: int, patience: float = PATIENCE) -> Answer:
    """Try once to connect, and wait for an answer up to a time limit."""
    try:
        socket.create_connection((host, port), timeout=patience).close()
    except (socket.gaierror, ValueError):  # the latter of a name that none can be: too long, with NUL in it
        return Answer.UNKNOWN_NAME
    except (ConnectionRefusedError, ConnectionResetError):
        return Answer.REFUSED
    except (OSError, OverflowError):  # no answer in time, no way (EHOSTUNREACH, ENETUNREACH), no such port
        return Answer.SILENT
    return Answer.OPEN


def blocked(job: SageMakerJob, there: str, address: str, seconds: float, tried: str) -> str:
    """Message about a blocked connection; ``tried`` is a clause about what else was tried."""
    by = f" (interface {job.network_interface})" if job.network_interface else ""
    return (
        f"{job.current_host} gets no answer from {there} at {address}{by}: all attempts to connect in the last"
        f" {seconds:.0f} s were dropped on the way; {tried}. Usual cause on SageMaker: the job's security group does"
        " not let its own members talk to each other. HINT: give the security group of VpcConfig two rules, inbound"
        " and outbound, 'all traffic' from and to that security group itself; then look at the subnets' routes and"
        " network ACLs."
    )


@dataclass
class _Attempts:
    """Attempts to connect to an address: a warning once they have been in vain for a while, an error after a limit."""

    job: SageMakerJob
    host: str
    port: int
    limit: float
    text: Callable[[Answer, float], str]  # about the last answer, after so many seconds in vain
    answer: Answer = Answer.REFUSED
    since: float | None = None
    has_warned: bool = False

    def poll(self, *, only_silence: bool = False, notify: Callable[[str], object] = lambda _: None) -> bool | None:
        """Try once; true where it connects. ``only_silence``: a refusal is not in vain."""
        asked = time.monotonic()
        self.answer = try_to_connect(self.host, self.port)
        if self.answer is Answer.OPEN:
            return True
        if only_silence and self.answer is not Answer.SILENT:
            self.since = None
            return None
        self.since = asked if self.since is None else self.since
        seconds = time.monotonic() - self.since
        if seconds >= self.limit:
            raise ConnectionError(self.text(self.answer, seconds))
        if seconds >= FIRST_LINE and not self.has_warned and self.job.local_rank == 0:
            self.has_warned, text = True, self.text(self.answer, seconds)
            log.warning("%s The job ends after %.0f s of this (%s).", text, self.limit, REACHABILITY)
            notify(text)
        return None


def wait_for_main_address(job: SageMakerJob, limit: float, timeout: float) -> None:
    """Wait until a process listens at the main address: ``limit`` seconds without an answer are a ConnectionError."""
    notifier = PeerNotifier(job.current_host, job.main_port)
    attempts = _Attempts(job, job.main_address, job.main_port, limit, partial(_no_answer, job))

    def poll() -> bool | None:
        is_open = attempts.poll(only_silence=True, notify=notifier.notify)
        if attempts.answer is Answer.UNKNOWN_NAME:  # it may be wrong for good
            wait.say_soon(FIRST_LINE)
        return is_open

    wait = Wait(
        job.current_host,
        lambda: f"rank 0 to listen at {job.main_address}:{job.main_port}: {_state(job, attempts.answer)}",
        limit=timeout,
        hint="HINT: look at the log of that host; where hosts start later, give the strategy a longer `timeout`.",
        speaks=job.local_rank == 0,
    )
    try:
        wait.until(poll, pauses=(0.05, 1.0))
    except ConnectionError as error:
        notifier.notify_last(str(error))
        raise
    finally:
        notifier.close()


def wait_for_agents(job: SageMakerJob, limit: float) -> None:
    """Check that one of torchrun's agents listens at the main address; after ``limit`` seconds a ConnectionError."""
    attempts = _Attempts(job, job.main_address, job.main_port, limit, partial(_no_listener, job))
    Wait(job.current_host, lambda: "torchrun's agents", speaks=False).until(attempts.poll, pauses=(1.0, 1.0))


def check_peer_connections(job: SageMakerJob, store: Store, address: str, limit: float, timeout: float) -> None:
    """Connect the first process of each host to the next host; a ConnectionError is raised in all processes."""
    all_hosts = Arrival(store, job.num_nodes)
    what = lambda: f"the other hosts to connect: {all_hosts.arrived} of {job.num_nodes} have"  # noqa: E731
    wait = Wait(job.current_host, what, limit=timeout, hint="HINT: look at their logs.", speaks=job.local_rank == 0)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        if job.local_rank == 0:
            listener.bind((address, 0))
            listener.listen()  # the kernel answers; nobody needs to accept
            write(store, f"at/{job.node_rank}", job.current_host, *listener.getsockname()[:2])
            next_rank = (job.node_rank + 1) % job.num_nodes
            there, host, port = wait.until(lambda: read(store, f"at/{next_rank}", str, str, int))
            attempts = _Attempts(job, host, port, limit, partial(_no_way, job, there, f"{host}:{port}"))

            def poll() -> bool | None:  # until this host connects, or another one has failed
                return True if attempts.poll() or all_hosts.outcome() is not None else None

            try:
                wait.until(poll)
                all_hosts.arrive()
            except ConnectionError as error:
                all_hosts.fail(str(error))
        if failure := wait.until(all_hosts.outcome):
            leave_store(store, job.world_size or 1, job.current_host, has_server=job.rank == 0)
            raise ConnectionError(failure)


def _no_listener(job: SageMakerJob, answer: Answer, _: float) -> str:
    return (
        f"{job.current_host} finds no process listening at {job.main_address}:{job.main_port}, though"
        f" torchrun's agents have connected ({answer.value}). HINT: was MASTER_ADDR or MASTER_PORT changed in the"
        " script? torchrun's own are right."
    )


def _no_way(job: SageMakerJob, there: str, address: str, answer: Answer, seconds: float) -> str:
    main = try_to_connect(job.main_address, job.main_port)
    tried = f"but the main address {job.main_address}:{job.main_port} " + (
        "answers, so only some ports are open" if main is Answer.OPEN else "does not answer now either"
    )
    if answer is Answer.REFUSED:
        tried = f"it was refused, although {there} listens there: the traffic goes to another machine; {tried}"
    return blocked(job, there, address, seconds, tried)


def _no_answer(job: SageMakerJob, _: Answer, seconds: float) -> str:
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


@dataclass
class PeerNotifier:
    """Sends a text to everyone who connects to this host's main port; nothing if the port is taken."""

    _host: str
    _port: int

    def __post_init__(self) -> None:
        self._text = ""
        self._ends = False
        self._heard = threading.Event()
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self._server: socket.socket | None = None

    def notify(self, text: str) -> None:
        """Send this text from now on."""
        self._text = text
        if self._server is None:
            with suppress(OSError, RuntimeError):  # the port is taken; no thread is left
                server = socket.create_server(("", self._port), backlog=_AT_ONCE)
                threading.Thread(target=self._serve, args=(server,), daemon=True).start()
                self._server = server

    def notify_last(self, text: str) -> None:
        """Send the reason why this host ends, and wait briefly until rank 0 has received it."""
        if self._server is not None:
            self._text, self._ends = text, True
            self._heard.wait(_FAREWELL)

    def close(self) -> None:
        """Free the port."""
        if self._server is not None:
            with suppress(OSError):
                self._server.shutdown(socket.SHUT_RDWR)  # ends `accept`
            self._server.close()

    def _serve(self, server: socket.socket) -> None:
        while server.fileno() >= 0:  # not closed
            try:
                connection, _ = server.accept()
            except OSError:  # closed; or reset before it was accepted, or no file descriptor is left
                time.sleep(_PAUSE)
                continue
            try:
                if self._free.acquire(blocking=False):
                    threading.Thread(target=self._answer, args=(connection,), daemon=True).start()
                    continue
            except RuntimeError:  # no thread is left
                self._free.release()
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        until = time.monotonic() + PATIENCE
        try:
            with connection, suppress(OSError):
                ends = self._ends
                connection.settimeout(PATIENCE)
                connection.sendall(encode(self._host, ends, self._text).encode())
                connection.shutdown(socket.SHUT_WR)
                if _receive(connection, until) == _HEARD and ends:
                    self._heard.set()
        finally:
            self._free.release()


def notification(host: str, port: int) -> tuple[str, bool]:
    """Text of a host that cannot reach rank 0, and whether that host ends; empty if it says nothing."""
    until = time.monotonic() + PATIENCE
    said = None
    with suppress(OSError), socket.create_connection((host, port), timeout=PATIENCE) as connection:
        said = decode(_receive(connection, until), str, bool, str)
        if said is not None:
            connection.sendall(_HEARD)
    if said is None or said[0] != host:  # no host of the job's, or another one than was asked
        return "", False
    return said[2], said[1]


def _receive(connection: socket.socket, until: float) -> bytes:
    """Everything that the other side sends, unless it is too long or takes too long."""
    message = b""
    while len(message) <= LONGEST and (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        part = connection.recv(LONGEST)
        if not part:
            return message
        message += part
    return b""
