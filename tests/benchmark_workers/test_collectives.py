from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist

from benchmarks.workers.collectives import Collectives, in_words, measure, repetitions, sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of one rank: what is wrong here is wrong in all."""
    store = dist.HashStore()  # type: ignore[attr-defined] # missing in torch's own list
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_sizes_reach_from_1_kib_to_the_largest() -> None:
    assert [in_words(size) for size in sizes(2**30)] == ["1 KiB", "16 KiB", "256 KiB", "4 MiB", "64 MiB", "1 GiB"]


def test_small_sizes_are_repeated_more_often_and_none_too_rarely() -> None:
    assert repetitions(1024) == 50
    assert repetitions(2**30) == 5


@pytest.mark.usefixtures("group")
def test_every_operation_is_measured_at_every_size() -> None:
    found = list(measure(Collectives(torch.device("cpu")), 2**14))
    assert [case for case, _, _ in found] == [
        f"{name}, {size}"
        for name in ("all_reduce", "all_gather", "reduce_scatter", "broadcast")
        for size in ("1 KiB", "16 KiB")
    ]
    assert all(len(seconds) == 50 and min(seconds) > 0 for _, seconds, _ in found)


@pytest.mark.usefixtures("group")
def test_a_wrong_result_ends_the_measurement_with_its_place() -> None:
    class Broken(Collectives):
        def all_gather(self, count: int) -> tuple[Callable[[], object], Any, Any]:
            call, filled, expected = super().all_gather(count)
            return lambda: (call(), filled[3:5].zero_()), filled, expected

    with pytest.raises(RuntimeError, match="all_gather of 1 KiB on rank 0: 2 values are wrong"):
        list(measure(Broken(torch.device("cpu")), 2**14))


@pytest.mark.usefixtures("group")
def test_an_operation_that_smddp_has_not_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    class Limited(Collectives):
        def reduce_scatter(self, count: int) -> tuple[Callable[[], object], Any, Any]:
            def refuse() -> None:
                raise RuntimeError("SMDDP does not support: reduce_scatter")

            return refuse, *super().reduce_scatter(count)[1:]

    cases = [case for case, _, _ in measure(Limited(torch.device("cpu")), 2**10)]
    assert cases == ["all_reduce, 1 KiB", "all_gather, 1 KiB", "broadcast, 1 KiB"]
    assert "reduce_scatter is left out: SMDDP does not support" in capsys.readouterr().out
