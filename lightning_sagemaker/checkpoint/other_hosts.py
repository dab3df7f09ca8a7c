"""Checkpoints that only rank 0's host has: rank 0 offers them, and the other hosts request them.

SageMaker's hosts have disks of their own, and only rank 0 writes. Nobody waits for anybody here but those who lack a
file, so a part of the ranks may do it: that of `Fabric.load` and `load_from_checkpoint`. Offers are told at the store
of the process group, by a connection of their own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from lightning_sagemaker.checkpoint.contents import kind_of, local
from lightning_sagemaker.checkpoint.transfer import Server, receive
from lightning_sagemaker.distributed.interface import address_in_network
from lightning_sagemaker.distributed.store import PrefixStore, end_of_group, own_connection, raw_value, read, write
from lightning_sagemaker.distributed.waiting import Wait
from lightning_sagemaker.locking.lock import node_lock
from lightning_sagemaker.messages import log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lightning_sagemaker.distributed.store import Store
    from lightning_sagemaker.job import SageMakerJob

_STORE = timedelta(seconds=60)  # for an answer of the store
_PATIENCE = 60.0  # seconds that rank 0 may come later than a rank that lacks a file
_FIRST_LINE = 5.0  # seconds after which such a rank says that it waits

_groups = itertools.count()
_current: OtherHosts | None = None


@dataclass(eq=False)
class OtherHosts:
    """The files that the hosts of the default process group offer each other."""

    job: SageMakerJob
    rank: int
    timeout: float  # seconds: the group's limit
    number: int  # of the group: all ranks make theirs in the same order
    received: set[str] = field(default_factory=set)  # keys of files that came from rank 0's host
    _has_ended: Callable[[], bool] = field(default_factory=end_of_group)
    _pid: int = field(default_factory=os.getpid)
    # Checkpoints are also written by threads (AsyncCheckpointIO).
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _server: Server | None = None
    _written: set[str] = field(default_factory=set)
    _loads: Counter[str] = field(default_factory=Counter)

    @property
    def is_there(self) -> bool:
        """Whether the group is still the default one, and this process is one of its ranks, not a forked child."""
        return os.getpid() == self._pid and not self._has_ended()

    @property
    def is_first_of_host(self) -> bool:
        """Whether no process of this host has a lower rank."""
        return self.rank % max(dist.get_world_size() // self.job.num_nodes, 1) == 0

    @property
    def lacks_files(self) -> bool:
        """Whether this is not rank 0's host."""
        return self.job.node_rank != 0

    def offer(self, path: Path, *, is_written: bool = False) -> None:
        """Offer a file of rank 0's host, perhaps just written by Lightning, or tell others that it does not exist."""
        key, host = _key(path), self.job.current_host
        with self._lock:
            try:
                if is_written:
                    self._written.add(os.path.realpath(path))
                else:
                    self._loads[key] += 1
                told: dict[str, Any] = {"kind": kind_of(path), "written": os.path.realpath(path) in self._written}
                told |= {"host": host, "loads": self._loads[key]}
                if told["kind"] == "file":
                    self._server = self._server or Server(host, address_in_network(self.job))
                    told["offer"] = self._server.offer(key, path)
                self._tell(f"offer/{key}", json.dumps(told))
            except (RuntimeError, OSError, ValueError) as error:  # rank 0 has the file, and goes on
                log.warning("Other hosts cannot have %s from this one: %s", path, error)

    def keep(self, path: Path) -> None:
        """Protect a file that a rank other than 0 has written itself from being replaced."""
        with self._lock:
            self._tell(f"own/{self.job.node_rank}/{_key(path)}", "1")

    def fetch(self, path: Path, *, patience: float, each: Callable[[], None] = lambda: None) -> str:
        """Get a file that this host lacks, or has in an older version, if rank 0's host has it; why not, in words.

        ``patience`` is for rank 0 to tell of it, where this host lacks it. Raises ``OSError`` if it could not be sent.
        """
        key = _key(path)
        self._loads[key] += 1
        if path.exists() and not self._is_replaceable(key, path):
            return ""
        told = self._wait(key, path, patience)
        if told is None:
            return f"{self.job.current_host} lacks it, and rank 0 has neither written nor loaded it through Lightning"
        if "offer" not in told:
            so_does = "has a folder there, of which nothing is sent" if told["kind"] == "folder" else "lacks it too"
            return f"{self.job.current_host} lacks it, and rank 0's host {told['host']} {so_does}"
        with node_lock(f"checkpoint {path}", timeout=max(self.timeout, _PATIENCE)):  # once per host
            if receive(told["offer"], path, self.job.current_host, each):
                self.received.add(key)
                with self._lock:
                    self._tell(f"received/{self.job.node_rank}/{key}", "1")
        return ""

    def _is_replaceable(self, key: str, path: Path) -> bool:
        """Whether a file is a copy, perhaps an older one, of a file on rank 0's host; other files are kept."""
        told = (self._told(key) if path.is_file() else None) or {}
        if "offer" not in told or self._read(f"own/{self.job.node_rank}/{key}") is not None:
            return False
        return told["written"] or self._read(f"received/{self.job.node_rank}/{key}") is not None

    def _wait(self, key: str, path: Path, patience: float) -> dict[str, Any] | None:
        """What rank 0 has published about a path; ``None`` if nothing so far."""

        def poll() -> dict[str, Any] | None:
            told = self._told(key)
            # That a file is not there may be old news: rank 0 has not come to load it as often as this rank.
            return told if told and ("offer" in told or told["loads"] >= self._loads[key]) else None

        what = f"rank 0 to load {path}, which this host lacks, at most {patience:.0f} s"
        wait = Wait(f"{self.job.current_host}, rank {self.rank}", lambda: what, limit=patience)
        wait.say_soon(_FIRST_LINE)
        try:
            return wait.until(poll)
        except TimeoutError:
            return self._told(key)

    def _told(self, key: str) -> dict[str, Any] | None:
        told = self._read(f"offer/{key}")
        return None if told is None else json.loads(told)

    def _tell(self, key: str, text: str) -> None:
        write(self._connection, key, text)
        raw_value(self._connection, key)  # which has an answer: whoever hears of it by another connection finds it

    def _read(self, key: str) -> str | None:
        with self._lock:
            found = read(self._connection, key, str)
        return None if found is None else found[0]

    @cached_property
    def _connection(self) -> Store:
        if (store := own_connection(_STORE)) is None:
            raise RuntimeError("the store of the process group is not a TCPStore")
        return PrefixStore(f"checkpoints/{self.number}", store)


def begin(job: SageMakerJob, timeout: float) -> None:
    """Register the default process group, which was just made with our environment, and its limit in seconds."""
    global _current  # noqa: PLW0603 - there is one default process group
    _current = OtherHosts(job, dist.get_rank(), timeout, next(_groups))


def end() -> None:
    """Forget the process group: the default one belongs to another cluster environment."""
    global _current  # noqa: PLW0603
    _current = None


def current() -> OtherHosts | None:
    """The default process group, if it was made with our environment and this process is one of its ranks."""
    return _current if _current is not None and _current.is_there else None


def offer(path: Path) -> None:
    """Offer a checkpoint that Lightning has just written to the other hosts; never raises."""
    hosts, path = current(), path.absolute()
    if hosts is None or hosts.job.num_nodes == 1:
        return
    if hosts.rank == 0:
        hosts.offer(path, is_written=True)
    elif hosts.lacks_files:
        with suppress(RuntimeError):  # the store is gone, and with it all that could replace the file
            hosts.keep(path)


def fetch_if_missing(path: object, *, patience: float = _PATIENCE) -> str:
    """Get a file that is about to be loaded, if this host lacks it, without waiting for ranks that have it.

    Returns what is known about a file that is not there; empty where it is, or nothing is known. Raises ``OSError`` if
    rank 0's host has it, but could not send it.
    """
    hosts, file = current(), local(path)
    if hosts is None or file is None or hosts.job.num_nodes == 1:
        return ""
    if hosts.rank == 0:
        hosts.offer(file)
    try:
        if hosts.lacks_files:
            return hosts.fetch(file, patience=patience)
    except (RuntimeError, ValueError) as error:  # the store is gone, or the lock has no place: as without this package
        log.warning("It cannot be asked whether rank 0's host has %s: %s", file, error)
    except OSError as error:
        raise type(error)(
            f"{hosts.job.current_host} lacks the checkpoint {file} that rank 0's host has, and could not get it:"
            f" {error}. HINT: make room on the disk, or let hosts reach each other on all ports."
        ) from error
    return ""


def forget(path: object) -> None:
    """Remove a file that came from rank 0's host, when Lightning removes it there; never raises."""
    hosts, file = current(), local(path)
    if hosts is not None and file is not None and _key(file) in hosts.received:
        hosts.received.discard(_key(file))
        with suppress(OSError):
            file.unlink()


def _key(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()
