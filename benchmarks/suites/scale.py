"""What a large world costs rank 0's store: ours beside what stock torch says there.

One process serves a real store of torch, two others hold the connections of all ranks and say what ranks say, each when
it is due, by the package's own functions; one more, somebody else, asks for a key each 2 ms and takes the time. Nothing
trains. Stock over NCCL: each rank asks each second whether another one wants traces to be written
(``TORCH_NCCL_COORD_CHECK_MILSEC``; over gloo it asks nothing). Windows of stock, of stock again and with ours follow
each other within one world, over the same open connections.

As root, so that the figures are the store's and not the machine's: the store's process stays on one core and the others
on another one, all before the machine's ordinary programs (``SCHED_FIFO``), and the asker before the ranks' processes,
whose load, which is more with ours, would keep it waiting.

Where the machine cannot say all in time, ``reached`` is below 1, and the store's CPU time is that of a request times
the requests that are due. Torch looks up the name of each peer: where names cannot be looked up quickly, run it behind
``unshare -m sh -c 'mount --bind /dev/null /etc/resolv.conf && exec "$@"' --``, or connecting takes hours.
"""

import itertools
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

from benchmarks.samples import Measured, Numbers, interleaved
from lightning_sagemaker.distributed import heartbeat, sigterm
from lightning_sagemaker.distributed.peers import Hosts
from lightning_sagemaker.distributed.store import Arrival, PrefixStore, TCPStore, read, write, write_first

ARMS = ("stock", "stock again", "and ours")
CLIENTS, PER_HOST, SENDERS = 2, 8, 2  # client processes; ranks of a host; ranks of a host that send heartbeats
STOCK_INTERVAL = 1.0  # seconds
LIMIT = 300.0  # seconds of silence that end the job, LIGHTNING_SAGEMAKER_HEARTBEAT
JOIN_INTERVAL = 0.25  # seconds between two looks while others are missing, once a wait is long
ASK_INTERVAL = 0.002  # seconds between two questions of somebody else
STORE, ASKER, RANKS = 3, 2, 1  # priorities among real-time programs
_connection = partial(TCPStore, "127.0.0.1", timeout=timedelta(seconds=120), wait_for_workers=False)
_context = multiprocessing.get_context("fork")  # torch is imported once


class Talk:
    """Something that each of several connections says each so many seconds, spread evenly, from window to window.

    Each saying returns how many requests it was.
    """

    def __init__(self, sayings: Sequence[Callable[[], int]], interval: float) -> None:
        self.sayings, self.each = itertools.cycle(sayings), interval / max(1, len(sayings))
        self.said = self.requests = 0  # in this window

    def say_what_is_due(self, now: float) -> bool:
        """Say a few of those that are due; whether there were any."""
        due = min(int(now / self.each) - self.said, 16)
        self.requests += sum(say() for say in itertools.islice(self.sayings, due))
        self.said += due
        return due > 0

    def due(self, seconds: float) -> float:
        """Requests that a window of so many seconds should have had."""
        return self.requests / self.said * seconds / self.each if self.said else 0.0


def talk(talks: list[Talk], ends: Callable[[float], bool]) -> float:
    """Say all that is due until the end; the seconds until then."""
    for one in talks:
        one.said = one.requests = 0
    start = time.monotonic()
    while not ends(now := time.monotonic() - start):
        if not sum(one.say_what_is_due(now) for one in talks):
            time.sleep(0.001)
    return now


class Ranks:
    """The ranks of some hosts, in this one process: all of their connections."""

    def __init__(self, hosts: range, all_hosts: int, port: int) -> None:
        self.hosts, self.all_hosts = hosts, all_hosts
        # Of torch, one for each rank; ours for SIGTERM, one for each host; ours for the heartbeat.
        self.groups, self.stops, beats = (
            [_connection(port, is_master=False) for _ in range(per_host * len(hosts))]
            for per_host in (PER_HOST, 1, SENDERS)
        )
        beating = heartbeat.interval(all_hosts, LIMIT)
        first, second = ([self._beat(host, sender, beats.pop()) for host in hosts] for sender in range(SENDERS))
        self.stock = Talk([partial(_counted, group.check, ["exception_dump"]) for group in self.groups], STOCK_INTERVAL)
        self.beats = [Talk(first, beating), Talk(second, heartbeat.SECOND_EVERY * beating)]
        self.asks = self._asks(lambda store: read(store, "stop/0", str))

    def _asks(self, ask: Callable[[TCPStore], object]) -> Talk:
        return Talk([partial(_counted, ask, store) for store in self.stops], sigterm.interval(self.all_hosts))

    def _beat(self, host: int, sender: int, store: TCPStore) -> Callable[[], int]:
        job: Any = SimpleNamespace(
            node_rank=host, num_nodes=self.all_hosts, current_host=f"algo-{host + 1}", local_rank=sender
        )
        hosts = Hosts(job, PrefixStore("heartbeat/0", store))
        if sender > 0:
            return lambda: _counted(hosts.beat, "at step 1")
        return lambda: 3 * _counted(hosts.exchange, 0.0, "at step 1")

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

        def look(number: int) -> None:
            if number in left and left[number].outcome() is not None:
                del left[number]

        talk([Talk([partial(_counted, look, number) for number in left], JOIN_INTERVAL)], lambda _: not left)
        return time.monotonic() - start

    def join_stock(self, name: str) -> float:
        """The same as torch has it before a communicator of NCCL: rank 0 sets its id, all get it; seconds."""
        start = time.monotonic()
        if self.hosts[0] == 0:
            self.groups[0].set(name, "id of a communicator")
        for group in self.groups:
            group.get(name)
        return time.monotonic() - start

    def run(self, seconds: float, ours: bool) -> tuple[int, float]:
        """Talk for a while; requests that were made, and how many would have been due."""
        talks = [self.stock, *([self.asks, *self.beats] if ours else [])]
        taken = talk(talks, lambda now: now >= seconds)
        return sum(one.requests for one in talks), sum(one.due(taken) for one in talks)

    def stop(self, key: str) -> float:
        """Talk until each host knows of a stop; the time of this machine's clock."""
        left = {*self.stops}

        def ask(store: TCPStore) -> None:
            if read(store, key, str) is not None:
                left.discard(store)

        talk([self.stock, self._asks(ask), *self.beats], lambda _: not left)
        return time.monotonic()


def _counted(request: Callable[..., object], *arguments: object) -> int:
    request(*arguments)
    return 1


def serve() -> SimpleNamespace:
    """The store."""
    store = _connection(0, is_master=True)
    return SimpleNamespace(port=lambda: store.port, cpu=time.process_time)


def somebody_else(port: int) -> SimpleNamespace:
    """Who asks for a key again and again and takes the time."""
    store = _connection(port, is_master=False)
    store.set("known", "1")

    def ask(seconds: float) -> list[float]:
        begin, latencies = time.monotonic(), []
        while time.monotonic() < begin + seconds:
            asked = time.perf_counter()
            store.get("known")
            latencies.append(time.perf_counter() - asked)
            time.sleep(ASK_INTERVAL)
        return sorted(latencies)

    return SimpleNamespace(ask=ask)


def be(pipe: Connection, core: int, priority: int, make: Callable[..., object], *arguments: object) -> None:
    """Make something on a core, before all ordinary programs there (its threads too); then call what is asked for."""
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    made = make(*arguments)
    while True:
        name, given = pipe.recv()
        pipe.send(getattr(made, name)(*given))


class Process:
    """A process that ends with this one, and what it has made."""

    def __init__(self, *arguments: object) -> None:
        self.pipe, there = _context.Pipe()
        _context.Process(target=be, args=(there, *arguments), daemon=True).start()

    def ask(self, name: str, *arguments: object) -> Callable[[], Any]:
        """Let it begin; its answer is got by a call."""
        self.pipe.send((name, arguments))
        return self.pipe.recv


class World:
    """A store and all of its ranks."""

    def __init__(self, hosts: int) -> None:
        first, *others = sorted(os.sched_getaffinity(0))
        if not others:
            raise RuntimeError("one core: the store's process would share it with its clients. HINT: use two cores.")
        self.server = Process(first, STORE, serve)
        self.port = self.server.ask("port")()
        cuts = [hosts * number // CLIENTS for number in range(CLIENTS + 1)]
        shares = [range(low, high) for low, high in itertools.pairwise(cuts)]
        self.clients = [Process(others[-1], RANKS, Ranks, share, hosts, self.port) for share in shares]
        self.asker = Process(others[-1], ASKER, somebody_else, self.port)
        self.of_each("run", 0.0, False)  # until all are connected

    def of_each(self, name: str, *arguments: object) -> list[Any]:
        """What each client answers."""
        return [answer() for answer in [client.ask(name, *arguments) for client in self.clients]]

    def window(self, arm: str, seconds: float) -> Numbers:
        """The store's CPU time, and somebody else's latency."""
        before, begin = self.server.ask("cpu")(), time.monotonic()
        asker = self.asker.ask("ask", seconds)
        counts = self.of_each("run", seconds, arm == "and ours")
        latencies = asker()
        used, taken = self.server.ask("cpu")() - before, time.monotonic() - begin
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
        answers = [client.ask("stop", key) for client in self.clients]
        time.sleep(2)
        said = time.monotonic()
        write(_connection(self.port, is_master=False), key, "algo-1, rank 0")
        return max(float(answer()) for answer in answers) - said


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
