"""The store, of every kind that torch makes process groups with."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from torch.distributed import FileStore, HashStore, PrefixStore, TCPStore  # type: ignore[attr-defined]

from lightning_sagemaker.distributed.store import look, wait_to_read, write

if TYPE_CHECKING:
    from pathlib import Path

    from lightning_sagemaker.distributed.store import Store


@pytest.fixture(params=["tcp", "tcp, prefixed", "hash", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "hash":
        return HashStore()
    if request.param == "file":
        return FileStore(str(tmp_path / "store"), 1)
    tcp = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))
    return tcp if request.param == "tcp" else PrefixStore("some/prefix", tcp)


def test_a_key_is_seen_once_it_is_set_and_looking_sets_nothing(store: Store) -> None:
    assert look(store, "key") is None
    assert look(store, "key") is None
    store.set("key", "value")
    assert look(store, "key") == b"value"
    assert store.get("key") == b"value"


def test_an_empty_value_is_a_value(store: Store) -> None:
    store.set("key", "")
    assert look(store, "key") == b""


def test_a_counter_is_seen_as_its_text(store: Store) -> None:
    store.add("count", 3)
    assert look(store, "count") == b"3"
    assert store.add("count", 1) == 4


def test_a_wait_ends_with_the_value_and_looks_after_other_things_meanwhile() -> None:
    store = HashStore()
    calls: list[float] = []
    threading.Timer(0.1, store.set, ("key", "a stranger's")).start()
    threading.Timer(0.3, write, (store, "key", "value")).start()
    assert wait_to_read(store, "key", str, each=lambda: calls.append(time.monotonic())) == ("value",)
    assert len(calls) > 2


def test_what_is_looked_after_may_end_the_wait() -> None:
    def stop() -> None:
        raise ConnectionError("the others are gone")

    with pytest.raises(ConnectionError, match="the others are gone"):
        wait_to_read(HashStore(), "key", str, each=stop)
