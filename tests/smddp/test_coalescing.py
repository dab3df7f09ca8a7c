"""One collective for what a step logs: on a real group of one process, whose collectives are counted."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist

from lightning_sagemaker.smddp.coalescing import Coalesced

if TYPE_CHECKING:
    from collections.abc import Iterator

TRAINERS = [name for name in ("lightning.pytorch", "pytorch_lightning") if importlib.util.find_spec(name.split(".")[0])]


@pytest.fixture
def reductions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Shapes of what was reduced over a real group of one process."""
    shapes: list[tuple[int, ...]] = []
    all_reduce = dist.all_reduce

    def counted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(tensor.shape))
        return all_reduce(tensor, *args, **kwargs)

    monkeypatch.setattr(dist, "all_reduce", counted)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield shapes
    dist.destroy_process_group()


def test_reductions_of_one_kind_are_one_collective_at_the_end(reductions: list[tuple[int, ...]]) -> None:
    coalesced = Coalesced()
    tensors = [torch.tensor(float(number)) for number in range(3)]
    with coalesced:
        assert [coalesced.reduce(tensor) for tensor in tensors] == tensors
        assert reductions == []
    assert reductions == [(3,)]
    assert [float(tensor) for tensor in tensors] == [0.0, 1.0, 2.0]


def test_operations_and_dtypes_are_kept_apart(reductions: list[tuple[int, ...]]) -> None:
    coalesced = Coalesced()
    wide = torch.tensor(0.1, dtype=torch.float64)
    with coalesced:
        for operation in ("mean", "sum", "max", "mean"):
            coalesced.reduce(torch.tensor(1.0), reduce_op=operation)
        coalesced.reduce(wide)
    assert sorted(reductions) == [(1,), (1,), (1,), (2,)]
    assert float(wide) == 0.1


def test_a_look_at_the_metrics_reduces_what_waits_and_no_more(reductions: list[tuple[int, ...]]) -> None:
    coalesced = Coalesced()
    with coalesced:
        coalesced.reduce(torch.tensor(1.0))
        coalesced.reduce_all()
        assert reductions == [(1,)]
        coalesced.reduce(torch.tensor(2.0))
    assert reductions == [(1,), (1,)]


def test_outside_of_a_step_each_is_reduced_at_once(reductions: list[tuple[int, ...]]) -> None:
    coalesced = Coalesced()
    coalesced.reduce(torch.tensor(1.0))
    coalesced.reduce(torch.tensor(2.0))
    assert reductions == [(), ()]


def test_a_value_with_a_graph_is_reduced_at_once(reductions: list[tuple[int, ...]]) -> None:
    coalesced = Coalesced()
    value = torch.tensor(1.0, requires_grad=True) * 2
    with coalesced, torch.no_grad():
        coalesced.reduce(value)
        assert reductions == [()]


def test_a_failed_step_reduces_nothing_and_leaves_nothing(reductions: list[tuple[int, ...]]) -> None:
    coalesced = Coalesced()

    def step(number: float) -> None:
        with coalesced:
            coalesced.reduce(torch.tensor(1.0))
            assert number, "the step fails"

    with pytest.raises(AssertionError, match="the step fails"):
        step(0)
    assert reductions == []
    step(1)
    assert reductions == [(1,)]


def test_without_a_process_group_nothing_is_reduced() -> None:
    tensor = torch.tensor(3.0)
    with Coalesced() as coalesced:
        assert coalesced.reduce(tensor) is tensor
    assert float(tensor) == 3.0


@pytest.mark.parametrize("package", TRAINERS)
@pytest.mark.parametrize(("strategy", "expected"), [("smddp", [[20]] * 4), ("ddp", [[]] * 80)])
def test_a_trainer_with_twenty_metrics_makes_one_collective_a_step(
    package: str, strategy: str, expected: list[list[int]], tmp_path: Path
) -> None:
    program = Path(__file__).with_name("log_twenty_metrics.py")
    done = subprocess.run(
        [sys.executable, program, package, strategy, tmp_path / "store"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == expected
