"""What works on SMDDP with Lightning's own DDPStrategy, and what with strategy="smddp"; feature by feature.

Prints one line a feature: "works", or the error. `--strategy stock` uses the glue that AWS documents; for stock
Lightning in all respects, run it with LIGHTNING_SAGEMAKER_AUTOLOAD=0.
"""

import argparse
import os
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy as FabricDDPStrategy
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset


class Model(L.LightningModule):
    """One layer; `reduce_fx` is how the validation loss is logged over all ranks, if at all."""

    def __init__(self, reduce_fx: str | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.reduce_fx = reduce_fx

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(torch.randn(16, 4)), batch_size=2)

    val_dataloader = train_dataloader

    def training_step(self, batch: list[Tensor]) -> Tensor:
        loss: Tensor = self.layer(batch[0]).square().mean()
        return loss

    def validation_step(self, batch: list[Tensor]) -> None:
        if self.reduce_fx:
            loss = self.layer(batch[0]).square().mean()
            self.log("loss", loss, sync_dist=True, reduce_fx=self.reduce_fx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class ModelWithDownload(Model):
    def prepare_data(self) -> None:
        """Where a user downloads."""


def glue(strategy: str, strategy_class: type) -> dict[str, Any]:
    """Arguments of a Trainer or Fabric: what AWS documents for stock Lightning, or the strategy's name and no more."""
    if strategy != "stock":
        return {"strategy": strategy}
    os.environ.setdefault("WORLD_SIZE", os.environ["OMPI_COMM_WORLD_SIZE"])  # the last Trainer has deleted it
    environment = LightningEnvironment()
    environment.world_size = lambda: int(os.environ["WORLD_SIZE"])  # type: ignore[method-assign]
    environment.global_rank = lambda: int(os.environ["RANK"])  # type: ignore[method-assign]
    devices = int(os.environ["OMPI_COMM_WORLD_LOCAL_SIZE"])
    return {
        "devices": devices,
        "num_nodes": int(os.environ["WORLD_SIZE"]) // devices,
        "strategy": strategy_class(cluster_environment=environment, process_group_backend="smddp"),
    }


def make_trainer(strategy: str, *callbacks: L.Callback) -> L.Trainer:
    return L.Trainer(
        **glue(strategy, DDPStrategy),
        accelerator="cpu",
        max_epochs=2,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def fit(strategy: str, model: L.LightningModule, *callbacks: L.Callback) -> None:
    make_trainer(strategy, *callbacks).fit(model)


def fit_and_validate(strategy: str) -> None:
    trainer = make_trainer(strategy)
    trainer.fit(Model())
    trainer.validate(Model(), verbose=False)


def fabric(strategy: str, use: Callable[[Fabric], Any]) -> None:
    launched = Fabric(accelerator="cpu", **glue(strategy, FabricDDPStrategy))
    launched.launch()
    use(launched)


def first_rank_first(launched: Fabric) -> None:
    with launched.rank_zero_first():
        pass


def gather_with_gradients(launched: Fabric) -> None:
    gathered = launched.all_gather(torch.ones(2, requires_grad=True), sync_grads=True)
    torch.as_tensor(gathered).sum().backward()


FEATURES: dict[str, Callable[[str], None]] = {
    "`fit` without logging": lambda strategy: fit(strategy, Model()),
    "`validate` after `fit`": fit_and_validate,
    "`self.log(sync_dist=True)`": lambda strategy: fit(strategy, Model("mean")),
    "`self.log(sync_dist=True, reduce_fx='max')`": lambda strategy: fit(strategy, Model("max")),
    "`EarlyStopping` on a metric of all ranks": lambda strategy: fit(strategy, Model("mean"), EarlyStopping("loss")),
    "an overridden `prepare_data`": lambda strategy: fit(strategy, ModelWithDownload()),
    "`Fabric.all_reduce`": lambda strategy: fabric(strategy, lambda launched: launched.all_reduce(torch.ones(2))),
    "`Fabric.rank_zero_first`": lambda strategy: fabric(strategy, first_rank_first),
    "`all_gather(sync_grads=True)`": lambda strategy: fabric(strategy, gather_with_gradients),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategy", choices=["stock", "smddp"], required=True)
    strategy = parser.parse_args().strategy
    if strategy == "stock":
        import smdistributed.dataparallel.torch.torch_smddp  # noqa: F401, PLC0415 - as AWS documents it

    for title, use in FEATURES.items():
        try:
            use(strategy)
            outcome = "works"
        except Exception as error:  # noqa: BLE001 - the error is the result
            outcome = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        if torch.distributed.get_rank() == 0:
            print(f"FEATURE {title} | {outcome}", flush=True)


if __name__ == "__main__":
    main()
