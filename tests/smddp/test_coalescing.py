"""One collective for what a step logs: on a real group of one process, whose collectives are counted."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from lightning_sagemaker.smddp.coalescing import Coalesced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
@pytest.mark.parametrize(("strategy", "expected"), [("smddp", [(20,)] * 4), ("ddp", [()] * 80)])
def test_a_trainer_with_twenty_metrics_makes_one_collective_a_step(
    package: str, strategy: str, expected: list[tuple[int, ...]], reductions: list[tuple[int, ...]], library: Any
) -> None:
    del library  # none is installed
    pl: Any = importlib.import_module(package)

    class Module(pl.LightningModule):  # type: ignore[misc]
        def training_step(self, batch: torch.Tensor) -> None:
            for number in range(20):
                self.log(f"metric {number}", batch.mean(), sync_dist=True)

        def configure_optimizers(self) -> None:
            return None

        def on_train_batch_start(self, *_: Any) -> None:
            reductions.clear()

        def on_train_batch_end(self, *_: Any) -> None:
            seen.extend(reductions)

    seen: list[tuple[int, ...]] = []
    batches: Any = [torch.ones(2) for _ in range(4)]
    options: Any = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, strategy=strategy, max_epochs=1, enable_model_summary=False, **options
    )
    module = Module()
    module.layer = torch.nn.Linear(1, 1)
    trainer.fit(module, DataLoader(batches, batch_size=None))
    assert seen == expected
