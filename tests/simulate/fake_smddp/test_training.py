"""What SMDDP can do, the fake SMDDP does as gloo does; and stock Lightning meets its limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("fake SMDDP")  # the worlds are shared by all tests

Worlds = Callable[..., Any]


@pytest.mark.parametrize("size", [2, 4])
def test_allowed_collectives_give_what_gloo_gives(world: Worlds, size: int) -> None:
    for result in world("collectives", size).results:
        assert len(result["smddp"]) == 7 * 8 * 4
        assert result["smddp"] == result["gloo"]


@pytest.mark.parametrize("size", [2, 4])
def test_collectives_compute_and_do_not_only_agree(world: Worlds, size: int) -> None:
    for rank, result in enumerate(world("collectives", size).results):
        values = [[index * (peer + 1) % 5 for index in range(12)] for peer in range(size)]
        summed = [sum(column) for column in zip(*values, strict=True)]
        results = result["smddp"]
        assert results["all_reduce int64 vector"] == results["all_reduce bfloat16 vector"] == summed
        assert results["all_reduce_async float32 vector"] == [True, summed]
        assert results["all_reduce float64 0-dim"] == summed[3]
        assert results["all_reduce float32 empty"] == []
        assert results["broadcast int32 vector"] == values[-1]
        assert results["broadcast bool vector"] == [bool(value) for value in values[-1]]
        assert results["reduce float32 vector"] == (summed if rank == 1 else None)
        assert results["all_gather uint8 vector"] == values
        assert results["objects bool vector"] == [[{"from": 1}, 1], ["x" * peer for peer in range(size)]]


def test_group_can_be_made_again_after_its_end(world: Worlds) -> None:
    for result in world("collectives").results:
        assert result["again"] == result["smddp"]


@pytest.mark.parametrize(
    "variant",
    [
        "plain",
        "no_sync",
        "find_unused_parameters",
        "static_graph",
        "gradient_as_bucket_view",
        "fp16 hook",
        "PowerSGD hook",
        "ZeroRedundancyOptimizer",
    ],
)
def test_ddp_trains_as_over_gloo(world: Worlds, variant: str) -> None:
    results = world("train").results
    for result in results:
        assert result["smddp"][variant] == pytest.approx(result["gloo"][variant], abs=1e-6)
    parameters = slice(0, 6 * 8 + 8)  # what follows them are batch norm's buffers, each rank's own
    assert results[0]["smddp"][variant][parameters] == results[1]["smddp"][variant][parameters]


def test_threads_end_with_the_group_although_a_model_holds_it(world: Worlds) -> None:
    for result in world("train").results:
        before, after = result["threads"]
        assert before > 0
        assert after == 0


def test_process_ends_quietly_that_destroys_nothing(world: Worlds) -> None:
    for errors in world("train").errors:
        assert "terminate" not in errors
        assert "Error" not in errors
    assert world("train").codes == [0, 0]


def test_stock_lightning_trains(world: Worlds) -> None:
    for result in world("stock_lightning").results:
        assert result["plain"] == result["log"] == result["log, sum"] == "3 steps"


def test_stock_lightning_fails_at_synchronised_logging(world: Worlds) -> None:
    for result in world("stock_lightning").results:
        assert result["log, mean"].startswith("RuntimeError: SMDDP does not support: ReduceOp (AVG;")
        assert result["log, max"].startswith("RuntimeError: SMDDP does not support: ReduceOp (MAX;")


def test_stock_lightning_fails_at_an_overridden_prepare_data(world: Worlds) -> None:
    for result in world("stock_lightning").results:
        assert result["prepare_data"].startswith("RuntimeError: SMDDP does not support: new_group")
