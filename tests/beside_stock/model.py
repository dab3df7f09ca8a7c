"""A small model with data, and a Trainer, as scripts of users have them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

if TYPE_CHECKING:
    from collections.abc import Callable

    Loader = DataLoader[tuple[Tensor, ...]]

PLAIN: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "max_epochs": 2,
}
QUIET = PLAIN | {"logger": False, "enable_checkpointing": False}


def world() -> dict[str, Any]:
    """Arguments by which stock forms the job's world."""
    worlds: dict[str, dict[str, Any]] = {
        "one": {"devices": 1},
        "two": {"devices": 2, "strategy": "ddp"},
        "hosts": {"devices": 1, "num_nodes": 2, "strategy": "ddp"},
        "disks": {"devices": 1, "num_nodes": 2, "strategy": "ddp"},
    }
    return worlds[os.environ["BESIDE_STOCK_JOB"]]


def smddp() -> str:
    """The strategy that stock does not know, where it is known; elsewhere the one that it takes the place of."""
    off = os.environ.get("LIGHTNING_SAGEMAKER_AUTOLOAD") == "0" or "LIGHTNING_SAGEMAKER_DISABLE" in os.environ
    return "ddp" if off else "smddp"


def trainer(**arguments: Any) -> Trainer:
    """A quiet Trainer in the job's world."""
    return Trainer(**(QUIET | world() | arguments))


def data(rows: int = 32) -> TensorDataset:
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x.sum(1, keepdim=True))


def loader(rows: int = 32, batch_size: int = 4, **arguments: Any) -> Loader:
    return DataLoader(data(rows), batch_size=batch_size, **arguments)


class Model(LightningModule):
    """A linear model that counts its batches."""

    def __init__(self, lr: float = 0.05, seed: int = 1) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Linear(8, 1)
        self.lr = lr
        self.seen = 0

    def loss(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def training_step(self, batch: list[Tensor], _index: int) -> Any:
        self.seen += 1
        loss = self.loss(batch)
        self.log("train", loss)
        return loss

    def validation_step(self, batch: list[Tensor], _index: int) -> Any:
        self.log("val", self.loss(batch), sync_dist=True)

    def test_step(self, batch: list[Tensor], batch_idx: int) -> Any:  # noqa: ARG002 - Lightning's name
        self.log("test", self.loss(batch), sync_dist=True)

    def predict_step(self, batch: list[Tensor], _index: int) -> Any:
        return self.net(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.lr)


def weights(model: nn.Module) -> list[float]:
    found: list[float] = torch.cat([parameter.detach().float().flatten() for parameter in model.parameters()]).tolist()
    return found


def logged(metrics: Any) -> dict[str, Any]:
    """Metrics as JSON holds them."""
    return {name: torch.as_tensor(value).tolist() for name, value in metrics.items()}


def fitted(model: Model, of: Trainer) -> dict[str, Any]:
    """What a fit has left."""
    return {
        "weights": weights(model),
        "batches": model.seen,
        "step": of.global_step,
        "epoch": of.current_epoch,
        "metrics": logged(of.callback_metrics),
    }


def raised(function: Callable[[], Any]) -> str:
    """Type of the exception that it raises."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 - that is the question
        return type(error).__name__
    return "nothing"
