"""The ranks agree on what they try next, by a store of their own that no trial can take down."""

from __future__ import annotations

import time
from datetime import timedelta

from lightning_sagemaker.distributed.store import PrefixStore, TCPStore

_POLL = 0.1


class Agreement:
    """A store on the host of rank 0; its server is held by rank 0's observing process, never by a trial's.

    Args:
        address: Host of rank 0.
        port: Port there.
        rank: This rank.
        world_size: Number of ranks.
        serves: Whether this process holds the server.
        patience: Seconds for the server to come.

    Raises:
        RuntimeError: It cannot be reached, or its port is taken.
    """

    def __init__(self, address: str, port: int, *, rank: int, world_size: int, serves: bool, patience: float) -> None:
        self.rank, self.world_size = rank, world_size
        self.store = TCPStore(
            address, port, is_master=serves, timeout=timedelta(seconds=patience), wait_for_workers=False
        )

    def part(self, name: str) -> PrefixStore:
        """A store of its own inside it."""
        return PrefixStore(name, self.store)

    def all_come(self, place: str, patience: float) -> None:
        """Wait until all ranks are at one place.

        Args:
            place: Its name; nobody comes twice.
            patience: Seconds.

        Raises:
            TimeoutError: Not all came.
        """
        if self.store.add(f"{place}/count", 1) == self.world_size:
            self.store.set(f"{place}/all", "1")
        self.wait(f"{place}/all", patience)

    def tell(self, name: str) -> None:
        """Say that something has happened."""
        self.store.set(name, "1")

    def wait(self, name: str, patience: float) -> None:
        """Wait until somebody has told that something has happened.

        Raises:
            TimeoutError: Nobody did.
        """
        until = time.monotonic() + patience
        while not self.store.check([name]):
            if time.monotonic() >= until:
                raise TimeoutError(f"not all {self.world_size} ranks came to {name!r} within {patience:g} s")
            time.sleep(_POLL)

    def leave(self, patience: float) -> None:
        """Leave; rank 0 stays until all have left, since its end is the server's."""
        count = self.store.add("left", 1)
        until = time.monotonic() + patience
        while self.rank == 0 and count < self.world_size and time.monotonic() < until:
            time.sleep(_POLL)
            count = self.store.add("left", 0)
