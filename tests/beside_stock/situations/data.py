"""Data: its preparation, its loaders, its samplers."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, get_worker_info

from tests.beside_stock.model import Model, data, fitted, loader, trainer
from tests.beside_stock.registry import situation

if TYPE_CHECKING:
    from collections.abc import Iterator


class Prepared(LightningDataModule):
    """Says what is called, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []

    def prepare_data(self) -> None:
        self.called.append("prepare_data")
        Path("prepared").write_text(str(os.getpid()))

    def setup(self, stage: str) -> None:
        self.called.append(f"setup {stage} {Path('prepared').exists()}")

    def teardown(self, stage: str) -> None:
        self.called.append(f"teardown {stage}")

    def train_dataloader(self) -> Any:
        return loader()

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


@situation("two")
def data_module_in_every_stage(_start: int) -> Any:
    t, m, d = trainer(), Model(), Prepared()
    t.fit(m, datamodule=d)
    for function in (t.validate, t.test, t.predict):
        function(m, datamodule=d)
    return fitted(m, t) | {"called": d.called}


@situation("two")
def data_prepared_on_each_node(_start: int) -> Any:
    class PerNode(Prepared):
        def __init__(self) -> None:
            super().__init__()
            self.prepare_data_per_node = False
            self.allow_zero_length_dataloader_with_multiple_devices = True

    t, m, d = trainer(), Model(), PerNode()
    t.fit(m, datamodule=d)
    again = trainer()
    again.fit(Model(), datamodule=d)
    return fitted(m, t) | {"called": d.called}


class Pooled(Prepared):
    """Spreads its work over processes by a method of its own."""

    def work(self, number: int) -> int:
        return number * number

    def prepare_data(self) -> None:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            self.called.append(f"prepared {pool.map(self.work, range(4))}")
        Path("prepared").touch()


@situation("two")
def data_prepared_by_a_pool(_start: int) -> Any:
    t, m, d = trainer(), Model(), Pooled()
    t.fit(m, datamodule=d)
    return fitted(m, t) | {"called": d.called}


@situation()
def data_prepared_by_a_pool_in_one_process(_start: int) -> Any:
    t, m, d = trainer(), Model(), Pooled()
    t.fit(m, datamodule=d)
    return fitted(m, t) | {"called": d.called}


@situation()
def data_module_pickled_in_its_hooks(_start: int) -> Any:
    class Pickles(Prepared):
        def prepare_data(self) -> None:
            super().prepare_data()
            self.called.append(f"attributes {sorted(vars(self))}")

        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.called.append(f"{stage} {sorted(name for name in vars(self) if 'sagemaker' in name)}")

    t, m, d = trainer(), Model(), Pickles()
    t.fit(m, datamodule=d)
    plain = Prepared()
    trainer().fit(Model(), datamodule=plain)
    plain.trainer = None
    return fitted(m, t) | {"called": d.called, "pickled": len(pickle.loads(pickle.dumps(plain)).called)}


@situation("two")
def modules_own_prepare_data(_start: int) -> Any:
    class Prepares(Model):
        def prepare_data(self) -> None:
            Path("by the module").touch()

        def train_dataloader(self) -> Any:
            return loader()

    t, m = trainer(), Prepares()
    t.fit(m)
    return fitted(m, t) | {"own": "prepare_data" in vars(m)}


class Pairs(BatchSampler):
    """A batch sampler of the user's."""


@situation("two")
def batch_sampler_of_the_users(_start: int) -> Any:
    sampler = Pairs(RandomSampler(range(32), generator=torch.Generator().manual_seed(3)), 4, drop_last=True)
    t, m = trainer(), Model()
    t.fit(m, DataLoader(data(), batch_sampler=sampler))
    return fitted(m, t) | {"sampler": type(vars(t.train_dataloader)["batch_sampler"]).__name__}


@situation("two")
def samplers_left_alone(_start: int) -> Any:
    t, m = trainer(use_distributed_sampler=False), Model()
    t.fit(m, loader(shuffle=True, generator=torch.Generator().manual_seed(5)))
    return fitted(m, t) | {"sampler": type(vars(t.train_dataloader)["sampler"]).__name__}


class Stream(IterableDataset[Any]):
    """Rows by rank and worker, of unequal length."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        rows = data()
        yield from (rows[index] for index in range(self.rank + (info.id if info else 0), len(rows), 4))


@situation("two")
def stream_with_workers(_start: int) -> Any:
    t, m = trainer(limit_train_batches=3), Model()
    t.fit(m, DataLoader(Stream(t.global_rank), 4, num_workers=2))
    return fitted(m, t) | {"batches": m.seen}


@situation()
def loaders_with_workers(_start: int) -> Any:
    """Several, shuffled, with workers that stay."""
    workers: dict[str, Any] = {"num_workers": 1, "persistent_workers": True}
    torch.manual_seed(7)
    t, m = trainer(reload_dataloaders_every_n_epochs=1), Model()
    t.fit(m, loader(shuffle=True, **workers), loader(8, **workers))
    return fitted(m, t)


@situation("two")
def no_even_share(_start: int) -> Any:
    """33 rows for two ranks: tested, predicted, and what each rank has seen."""

    class Sees(Model):
        def test_step(self, batch: list[torch.Tensor], batch_idx: int) -> Any:  # noqa: ARG002 - Lightning's name
            self.log("sum", batch[1].sum(), sync_dist=True, reduce_fx="sum")

    t, m = trainer(), Sees()
    predicted = t.predict(m, loader(33)) or []
    return [t.test(m, loader(33), verbose=False), [len(batch) for batch in predicted]]
