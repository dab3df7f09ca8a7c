"""What a large world costs rank 0's store: ours beside what stock torch says there.

One process serves a real store of torch, two others hold the connections of all ranks and say what ranks say, each when
it is due; one more, somebody else, asks for a key each 2 ms and takes the time. Nothing trains. What is said is what
the package says, by its own functions, and what stock says: over NCCL each rank asks each second whether another one
wants traces to be written (``TORCH_NCCL_COORD_CHECK_MILSEC``; over gloo it asks nothing). Windows of stock, of stock
again and with ours follow each other within one world, over the same open connections.

So that the figures are the store's and not the machine's, as root: the store's process stays on one core and the others
on another one, all before the machine's ordinary programs (``SCHED_FIFO``), and the asker before the ranks' processes,
so that their load, which is more with ours, does not keep it waiting.

Where the machine cannot say all in time, ``reached`` is below 1, and the store's CPU time is that of a request times
the requests that are due. Torch looks up the name of each peer: where names cannot be looked up quickly, run it behind
``unshare -m sh -c 'mount --bind /dev/null /etc/resolv.conf && exec "$@"' --``, or connecting takes hours.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import statistics
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.samples import Measured, interleaved
from lightning_sagemaker.distributed import heartbeat, sigterm
from lightning_sagemaker.distributed.peers import Hosts
from lightning_sagemaker.distributed.store import Arrival, PrefixStore, TCPStore, read, write, write_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from benchmarks.samples import Numbers

ARMS = ("stock", "stock again", "and ours")
CLIENTS, PER_HOST, SENDERS = 2, 8, 2  # client processes; ranks of a host; ranks of a host that send heartbeats
STOCK_INTERVAL = 1.0  # seconds
LIMIT = 300.0  # seconds of silence that end the job, LIGHTNING_SAGEMAKER_HEARTBEAT
JOIN_INTERVAL = 0.25  # seconds between two looks while others are missing, once a wait is long
ASK_INTERVAL = 0.002  # seconds between two questions of somebody else
STORE, ASKER, RANKS = 3, 2, 1  # priorities among real-time programs
_connection = partial(TCPStore, "127.0.0.1", timeout=timedelta(seconds=120), wait_for_workers=False)
_context = multiprocessing.get_context("fork")  # torch is imported once


@dataclass
class Talk:
    """Something that each of several connections says again and again, from window to window.

    Attributes:
        sayings: One for each connection; each returns how many requests it was.
        interval: Seconds between two of a connection; those of all are spread over it.
    """

    sayings: Sequence[Callable[[], int]]
    interval: float
    said: int = 0
    begin: int = 0
    requests: int = 0

    def reset(self) -> None:
        """Begin a window, with the connection that is next."""
        self.begin, self.requests = self.said, 0

    def say_what_is_due(self, now: float) -> bool:
        """Say a few of those that are due; whether there were any."""
        due = min(self.begin + int(now / self.interval * len(self.sayings)), self.said + 16)
        for number in range(self.said, due):
            self.requests += self.sayings[number % len(self.sayings)]()
        found, self.said = due > self.said, max(due, self.said)
        return found

    def due(self, seconds: float) -> float:
        """Requests that a window of so many seconds should have had."""
        said = self.said - self.begin
        return self.requests / said * len(self.sayings) * seconds / self.interval if said else 0.0


def talk(talks: list[Talk], ends: Callable[[float], bool]) -> float:
    """Say all that is due until the end; the seconds until then."""
    for one in talks:
        one.reset()
    start = time.monotonic()
    while not ends(now := time.monotonic() - start):
        if not sum(one.say_what_is_due(now) for one in talks):
            time.sleep(0.001)
    return now


@dataclass
class Ranks:
    """The ranks of some hosts, in this one process: all of their connections."""

    hosts: range
    all_hosts: int
    port: int
    groups: list[TCPStore] = field(default_factory=list)  # of torch, one for each rank
    stops: list[TCPStore] = field(default_factory=list)  # ours for SIGTERM, one for each host
    beats: list[TCPStore] = field(default_factory=list)  # ours for the heartbeat, of those that use it all the time
    talks: dict[str, list[Talk]] = field(default_factory=dict)  # of stock, and of ours

    def connect(self) -> None:
        """Open all connections."""
        for per_host, some in ((PER_HOST, self.groups), (1, self.stops), (SENDERS, self.beats)):
            some += [_connection(self.port, is_master=False) for _ in range(per_host * len(self.hosts))]
        first, second = ([self._beat(host, sender) for host in range(len(self.hosts))] for sender in range(SENDERS))
        beating = heartbeat.interval(self.all_hosts, LIMIT)
        self.talks = {
            "stock": [Talk([partial(_check, group) for group in self.groups], STOCK_INTERVAL)],
            "ours": [
                Talk([partial(_ask, store) for store in self.stops], sigterm.interval(self.all_hosts)),
                Talk(first, beating),
                Talk(second, heartbeat.SECOND_EVERY * beating),
            ],
        }

    def _beat(self, host: int, sender: int) -> Callable[[], int]:
        number, store = self.hosts[host], PrefixStore("heartbeat/0", self.beats[host * SENDERS + sender])
        job: Any = SimpleNamespace(
            node_rank=number, num_nodes=self.all_hosts, current_host=f"algo-{number + 1}", local_rank=sender
        )
        hosts = Hosts(job, store)

        def beat() -> int:
            if sender > 0:
                hosts.beat("at step 1")
                return 1
            hosts.exchange(0.0, "at step 1")
            return 3

        return beat

    def join(self, name: str) -> float:
        """Let all ranks join and look until all have; seconds."""
        left = {}
        start = time.monotonic()
        for number, group in enumerate(self.groups):
            store = PrefixStore(name, group)
            host, rank = self.hosts[number // PER_HOST], self.hosts[0] * PER_HOST + number
            write_first(store, f"rank/{rank}", f"algo-{host + 1}")
            store.add(f"claims/{rank}", 1)
            store.add(f"algo-{host + 1}", 1)
            left[number] = Arrival(store, self.all_hosts * PER_HOST)
            left[number].arrive()

        def look(number: int) -> int:
            if number in left and left[number].outcome() is not None:
                del left[number]
            return 1

        talk([Talk([partial(look, number) for number in left], JOIN_INTERVAL)], lambda _: not left)
        return time.monotonic() - start

    def join_stock(self, name: str) -> float:
        """The same as torch has it before a communicator of NCCL: rank 0 sets its id, all get it; seconds."""
        start = time.monotonic()
        if self.hosts[0] == 0:
            self.groups[0].set(name, "id of a communicator")
        for group in self.groups:
            group.get(name)
        return time.monotonic() - start

    def run(self, seconds: float, *, ours: bool) -> tuple[int, float]:
        """Talk for a while; requests that were made, and how many would have been due."""
        talks = [*self.talks["stock"], *(self.talks["ours"] if ours else [])]
        taken = talk(talks, lambda now: now >= seconds)
        return sum(one.requests for one in talks), sum(one.due(taken) for one in talks)

    def stop(self, key: str) -> float:
        """Talk until each host knows of a stop; the time of this machine's clock."""
        left = set(range(len(self.stops)))

        def ask(number: int) -> int:
            if read(self.stops[number], key, str) is not None:
                left.discard(number)
            return 1

        asking = Talk([partial(ask, number) for number in left], sigterm.interval(self.all_hosts))
        talk([*self.talks["stock"], asking, *self.talks["ours"][1:]], lambda _: not left)
        return time.monotonic()


def _check(group: TCPStore) -> int:
    group.check(["exception_dump"])
    return 1


def _ask(store: TCPStore) -> int:
    read(store, "stop/0", str)
    return 1


def stay_on(core: int, priority: int) -> None:
    """Stay on a core, before all ordinary programs there; threads that this one starts do the same."""
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def serve(pipe: Connection, core: int) -> None:
    """Be the process of the store until the other end closes."""
    stay_on(core, STORE)
    store = _connection(0, is_master=True)
    pipe.send(store.port)
    while True:
        pipe.recv()
        pipe.send(time.process_time())


def be_client(pipe: Connection, ranks: Ranks, core: int) -> None:
    """Do with the ranks what is asked for."""
    stay_on(core, RANKS)
    while True:
        name, arguments, options = pipe.recv()
        pipe.send(getattr(ranks, name)(*arguments, **options))


def ask_on(pipe: Connection, port: int, core: int) -> None:
    """Be somebody else, who asks for a key again and again and takes the time."""
    stay_on(core, ASKER)
    store = _connection(port, is_master=False)
    store.set("known", "1")
    while True:
        seconds, begin, latencies = pipe.recv(), time.monotonic(), []
        while time.monotonic() < begin + seconds:
            asked = time.perf_counter()
            store.get("known")
            latencies.append(time.perf_counter() - asked)
            time.sleep(ASK_INTERVAL)
        pipe.send(sorted(latencies))


def start(target: Callable[..., None], *arguments: object) -> Connection:
    """Start a process that ends with this one; the way to it."""
    here, there = _context.Pipe()
    _context.Process(target=target, args=(there, *arguments), daemon=True).start()
    return here


class World:
    """A store and all of its ranks."""

    def __init__(self, hosts: int) -> None:
        first, *others = sorted(os.sched_getaffinity(0))
        if not others:
            raise RuntimeError("one core: the store's process would share it with its clients. HINT: use two cores.")
        self.server = start(serve, first)
        port = self.server.recv()
        cuts = [hosts * number // CLIENTS for number in range(CLIENTS + 1)]
        shares = [range(low, high) for low, high in itertools.pairwise(cuts)]
        self.clients = [start(be_client, Ranks(share, hosts, port), others[-1]) for share in shares]
        self.asker = start(ask_on, port, others[-1])
        self.port = port
        self.of_each("connect")

    def of_each(self, name: str, *arguments: object, **options: object) -> list[Any]:
        """What each client answers."""
        for client in self.clients:
            client.send((name, arguments, options))
        return [client.recv() for client in self.clients]

    def window(self, arm: str, seconds: float) -> Numbers:
        """The store's CPU time, and somebody else's latency."""
        before, begin = self._cpu(), time.monotonic()
        self.asker.send(seconds)
        counts = self.of_each("run", seconds, ours=arm == "and ours")
        latencies = self.asker.recv()
        used, taken = self._cpu() - before, time.monotonic() - begin
        done, due = (sum(column) for column in zip(*counts, strict=True))
        own = len(latencies)  # of the requests, which all arms have
        return {
            "get_p50_seconds": statistics.median(latencies),
            "get_p99_seconds": latencies[int(0.99 * own)],
            "store_cpu_seconds": used / taken * (due + own) / (done + own),
            "requests/s": due / taken,
            "reached": done / due,
        }

    def stop(self, number: int) -> float:
        """Seconds until all hosts know of a stop that is said a moment after they have begun to ask."""
        key = f"stop/{number + 1}"
        for client in self.clients:
            client.send(("stop", (key,), {}))
        time.sleep(2)
        said = time.monotonic()
        write(_connection(self.port, is_master=False), key, "algo-1, rank 0")
        return max(float(client.recv()) for client in self.clients) - said

    def _cpu(self) -> float:
        self.server.send(None)
        return float(self.server.recv())


def measure(launches: int = 40, hosts: tuple[int, ...] = (10, 100, 1000), seconds: float = 1.0) -> Iterator[Measured]:
    """Measure worlds of so many hosts.

    Args:
        launches: Windows of each arm.
        hosts: Of each world.
        seconds: Of a window.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    for number in hosts:
        world, case, settings = World(number), f"{number} x {PER_HOST}", {"seconds": seconds}
        for index in range(3):
            for arm, way in zip(ARMS, ("join_stock", "join_stock", "join"), strict=True):
                numbers = {"all joined, s": max(world.of_each(way, f"{arm}/{index}"))}
                if arm == "and ours":
                    numbers["all know of a stop, s"] = world.stop(index)
                yield Measured(f"{case}, once", arm, index, numbers)
        for arm, index in interleaved(ARMS, launches):
            yield Measured(case, arm, index, world.window(arm, seconds), settings)
