"""What a large world costs rank 0's store: ``.venv/bin/python benchmarks/scale.py``; some minutes on two cores.

One process serves a real store of torch, two others hold the connections of all ranks and say what ranks say there,
each when it is due; a further connection, somebody else's, asks for a key each 10 ms and takes the time. Nothing
trains. What is said is what the package says, by its own functions, and what stock torch says: over NCCL each rank asks
each second whether another one wants traces to be written (``TORCH_NCCL_COORD_CHECK_MILSEC``; over gloo it asks
nothing). Windows of stock alone, with ours by rank as it was, and with ours by host follow each other within one world,
A B C C B A, over the same open connections.

Where the machine cannot say all in time, the share that was reached is reported, and the server's part of a core is
that of a request times the requests that are due: a bound from above, as a busy server answers several at once.

Torch looks up the name of each peer, so where names cannot be looked up quickly, run it as root behind
``unshare -m sh -c 'mount --bind /dev/null /etc/resolv.conf && exec "$@"' --``, or connecting takes hours.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import resource
import statistics
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.distributed.peers import Hosts
from lightning_sagemaker.distributed.sigterm import interval
from lightning_sagemaker.distributed.store import Arrival, PrefixStore, TCPStore, read, write, write_first

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

CLIENTS, PER_HOST, SENDERS = 2, 8, 2  # client processes; ranks of a host; ranks of a host that send heartbeats
STOCK_INTERVAL, BEAT_INTERVAL = 1.0, 5.0  # seconds
JOIN_INTERVAL = 0.25  # seconds between two looks while others are missing, once a wait is long
STOCK, BY_RANK, BY_HOST = "stock", "and ours by rank", "and ours by host"
_connection = partial(TCPStore, "127.0.0.1", timeout=timedelta(seconds=120), wait_for_workers=False)
_context = multiprocessing.get_context("fork")  # torch is imported once


@dataclass
class Talk:
    """A request that each of several connections repeats.

    Attributes:
        sayings: One for each connection; each returns how many requests it was.
        interval: Seconds between two of a connection; those of all are spread over it.
    """

    sayings: Sequence[Callable[[], int]]
    interval: float
    said: int = 0
    requests: int = 0

    def say_what_is_due(self, now: float) -> bool:
        """Say a few of those that are due; whether there were any."""
        due = min(int(now / self.interval * len(self.sayings)), self.said + 16)
        for number in range(self.said, due):
            self.requests += self.sayings[number % len(self.sayings)]()
        found, self.said = due > self.said, max(due, self.said)
        return found


def talk(talks: list[Talk], ends: Callable[[float], bool]) -> float:
    """Send all requests that are due until the end; the seconds until then."""
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
    stops: list[TCPStore] = field(default_factory=list)  # ours for SIGTERM, one for each rank
    beats: list[TCPStore] = field(default_factory=list)  # ours for the heartbeat, of those that use it all the time

    def connect(self) -> dict[str, float]:
        """Open all connections; seconds for those of stock, and of ours."""
        taken = {}
        for name, stores in (("stock", {PER_HOST: self.groups}), ("ours", {PER_HOST: self.stops, SENDERS: self.beats})):
            start = time.monotonic()
            for per_host, some in stores.items():
                some += [_connection(self.port, is_master=False) for _ in range(per_host * len(self.hosts))]
            taken[name] = time.monotonic() - start
        return taken

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
            arrival = Arrival(store, self.all_hosts * PER_HOST)
            arrival.arrive()
            left[number] = arrival
        looks = [partial(self._look, left, number) for number in left]
        talk([Talk(looks, JOIN_INTERVAL)], lambda _: not left)
        return time.monotonic() - start

    @staticmethod
    def _look(left: dict[int, Arrival], number: int) -> int:
        if number not in left:
            return 0
        if left[number].outcome() is not None:
            del left[number]
        return 1

    def join_stock(self, name: str) -> float:
        """The same as torch has it before a communicator of NCCL: rank 0 sets its id, all get it; seconds."""
        start = time.monotonic()
        if self.hosts[0] == 0:
            self.groups[0].set(name, "id of a communicator")
        for group in self.groups:
            group.get(name)
        return time.monotonic() - start

    def talks(self, arm: str, stopped: Callable[[int, TCPStore], int]) -> list[Talk]:
        """What these ranks say in an arm."""
        found = [Talk([partial(_check, group) for group in self.groups], STOCK_INTERVAL)]
        if arm != STOCK:
            stops = [partial(stopped, number, self.stops[number]) for number in self.asking(arm)]
            found.append(Talk(stops, interval(self.all_hosts if arm == BY_HOST else 1)))
            beats = [self._beat(host, sender, arm) for host in range(len(self.hosts)) for sender in range(SENDERS)]
            found.append(Talk(beats, BEAT_INTERVAL))
        return found

    def asking(self, arm: str) -> range:
        """Ranks, counted here, that ask for SIGTERM at the store: the first of each host, or all as it was before."""
        return range(0, len(self.stops), PER_HOST if arm == BY_HOST else 1)

    def _beat(self, host: int, sender: int, arm: str) -> Callable[[], int]:
        number, store = self.hosts[host], PrefixStore("heartbeat/0", self.beats[host * SENDERS + sender])
        job: Any = SimpleNamespace(
            node_rank=number, num_nodes=self.all_hosts, current_host=f"algo-{number + 1}", local_rank=sender
        )
        hosts = Hosts(job, store)

        def beat() -> int:
            if arm == BY_HOST and sender > 0:
                hosts.beat("at step 1")
                return 1
            hosts.exchange(0.0, "at step 1")
            if arm == BY_HOST:
                return 3
            read(store, f"left/{number}")  # as it was each time, and by each sender
            return 4

        return beat

    def run(self, arm: str, seconds: float) -> list[tuple[int, float]]:
        """Talk for a while; requests that were made, and how many would have been due, of each talk."""
        talks = self.talks(arm, lambda _, store: 1 + _ask(store, "stop/0"))
        taken = talk(talks, lambda now: now >= seconds)
        return [
            (one.requests, one.requests * len(one.sayings) * taken / one.interval / max(one.said, 1)) for one in talks
        ]

    def stop(self, arm: str, key: str) -> float:
        """Talk until each rank knows of a stop; the time of this machine's clock."""
        left = set(self.asking(arm))

        def ask(number: int, store: TCPStore) -> int:
            if _ask(store, key):
                left.discard(number)
            return 1

        talk(self.talks(arm, ask), lambda _: not left)
        return time.monotonic()


def _check(group: TCPStore) -> int:
    group.check(["exception_dump"])
    return 1


def _ask(store: TCPStore, key: str) -> bool:
    return read(store, key, str) is not None


def serve(pipe: Connection) -> None:
    """Be the process of the store until the other end closes."""
    store = _connection(0, is_master=True)
    pipe.send(store.port)
    while True:
        pipe.recv()
        pipe.send(time.process_time())


def be_client(pipe: Connection, ranks: Ranks) -> None:
    """Do with the ranks what is asked for."""
    while True:
        name, *arguments = pipe.recv()
        pipe.send(getattr(ranks, name)(*arguments))


def start(target: Callable[..., None], *arguments: object) -> Connection:
    """Start a process that ends with this one; the way to it."""
    here, there = _context.Pipe()
    _context.Process(target=target, args=(there, *arguments), daemon=True).start()
    return here


class World:
    """A store and all of its ranks."""

    def __init__(self, hosts: int) -> None:
        self.server = start(serve)
        port = self.server.recv()
        cuts = [hosts * number // CLIENTS for number in range(CLIENTS + 1)]
        shares = [range(low, high) for low, high in itertools.pairwise(cuts)]
        self.clients = [start(be_client, Ranks(share, hosts, port)) for share in shares]
        self.other = _connection(port, is_master=False)
        self.other.set("known", "1")
        self.stops = 0

    def of_each(self, *call: object) -> list[Any]:
        """What each client answers."""
        for client in self.clients:
            client.send(call)
        return [client.recv() for client in self.clients]

    def measure(self, arm: str, seconds: float) -> dict[str, float]:
        """One window: the server's part of a core, somebody else's latency."""
        before, start = self._cpu(), time.monotonic()
        for client in self.clients:
            client.send(("run", arm, seconds))
        latencies = []
        while time.monotonic() - start < seconds:
            asked = time.perf_counter()
            self.other.get("known")
            latencies.append(time.perf_counter() - asked)
            time.sleep(0.01)
        counts = [count for client in self.clients for count in client.recv()]
        taken, used = time.monotonic() - start, self._cpu() - before
        done, due = sum(count for count, _ in counts), sum(due for _, due in counts)
        latencies.sort()
        return {
            "requests per s": due / taken,
            "reached": done / due if due else 1.0,
            "core, %": 100 * used / taken * (due / done if done else 1.0),
            "median, us": 1e6 * statistics.median(latencies),
            "p99, us": 1e6 * latencies[int(0.99 * len(latencies))],
        }

    def stop(self, arm: str) -> float:
        """Seconds until all who ask know of a stop that is said a moment after they have begun."""
        self.stops += 1
        key = f"stop/{self.stops}"
        for client in self.clients:
            client.send(("stop", arm, key))
        time.sleep(2)
        said = time.monotonic()
        write(self.other, key, "algo-1, rank 0")
        return max(float(client.recv()) for client in self.clients) - said

    def _cpu(self) -> float:
        self.server.send(None)
        return float(self.server.recv())


def report(hosts: int, seconds: float, rounds: int) -> dict[str, object]:
    """Measure one world; the medians of its rounds."""
    world = World(hosts)
    connected = world.of_each("connect")
    found: dict[str, object] = {"hosts": hosts, "ranks": hosts * PER_HOST}
    for whose in connected[0]:
        found[f"all connected, {whose}, s"] = round(max(taken[whose] for taken in connected), 2)
    joins = [[max(world.of_each(way, f"{way}/{again}")) for way in ("join_stock", "join")] for again in range(rounds)]
    for whose, taken in zip((STOCK, "ours, besides"), zip(*joins, strict=True), strict=True):
        found[f"all joined, {whose}, s"] = round(statistics.median(taken), 2)
    arms = (STOCK, BY_RANK, BY_HOST)
    windows: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
    for again in range(rounds):
        for arm in arms if again % 2 == 0 else reversed(arms):
            windows[arm].append(world.measure(arm, seconds))
    for arm, measured in windows.items():
        medians = {what: statistics.median(one[what] for one in measured) for what in measured[0]}
        if arm != STOCK:
            pairs = list(zip(measured, windows[STOCK], strict=True))
            medians["our part of a core, %"] = statistics.median(a["core, %"] - b["core, %"] for a, b in pairs)
            medians["ratio of median"] = statistics.median(a["median, us"] / b["median, us"] for a, b in pairs)
            medians["ratio of p99"] = statistics.median(a["p99, us"] / b["p99, us"] for a, b in pairs)
            medians["stop known to all who ask, s"] = max(world.stop(arm) for _ in range(rounds))
        found[arm] = {what: round(value, 2) for what, value in medians.items()}
    return found


def main() -> None:
    """Measure, and print a line of JSON for each world."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--seconds", type=float, default=10, help="of a window")
    parser.add_argument("--rounds", type=int, default=4, help="windows of each arm, joins and stops")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    for hosts in given.hosts:
        print(json.dumps(report(hosts, given.seconds, given.rounds)), flush=True)


if __name__ == "__main__":
    main()
