"""The store, of every kind that torch makes process groups with."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from torch.distributed import FileStore, HashStore, PrefixStore, TCPStore  # type: ignore[attr-defined]

from lightning_sagemaker.distributed.store import Arrival, raw_value

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
    assert raw_value(store, "key") is None
    assert raw_value(store, "key") is None
    store.set("key", "value")
    assert raw_value(store, "key") == b"value"
    assert store.get("key") == b"value"


def test_an_empty_value_is_a_value(store: Store) -> None:
    store.set("key", "")
    assert raw_value(store, "key") == b""


def test_a_counter_is_seen_as_its_text(store: Store) -> None:
    store.add("count", 3)
    assert raw_value(store, "count") == b"3"
    assert store.add("count", 1) == 4


def test_all_go_on_once_all_have_arrived_and_each_knows_its_number(store: Store) -> None:
    everybody = [Arrival(PrefixStore("point", store), 3) for _ in range(3)]
    for number, one in enumerate(everybody):
        assert one.outcome() is None
        assert one.arrived == number
        assert one.arrive() == number + 1
    assert [one.outcome() for one in everybody] == [""] * 3


def test_where_one_fails_all_learn_why_also_later_and_the_first_reason_holds(store: Store) -> None:
    first, second, late = (Arrival(PrefixStore("point", store), 3) for _ in range(3))
    first.arrive()
    second.fail("no disk")
    late.fail("no luck")
    late.arrive()
    assert {one.outcome() for one in (first, second, late)} == {"no disk"}


def test_what_no_rank_wrote_is_no_outcome() -> None:
    point = Arrival(store := HashStore(), 1)
    store.set("outcome", "a stranger's")
    assert point.outcome() is None
    point.arrive()
    assert point.outcome() == ""
