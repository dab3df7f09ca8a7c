"""Programs as Lightning's own examples show them for a Trainer, in miniature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.callbacks import BaseFinetuning, ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics.classification import MulticlassAccuracy

from tests.beside_stock.model import PLAIN, Model, fitted, loader, logged, trainer, weights, world
from tests.beside_stock.registry import program

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch.optim import Optimizer

ROWS = 24


class Images(LightningDataModule):
    """Small images of three classes, fetched in ``prepare_data`` and split in ``setup``."""

    def __init__(self, folder: str = "images", batch_size: int = 4) -> None:
        super().__init__()
        self.folder, self.batch_size = Path(folder), batch_size

    def prepare_data(self) -> None:
        self.folder.mkdir(exist_ok=True)
        pixels = torch.randn(ROWS, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        torch.save((pixels, pixels.mean((1, 2, 3)).mul(9).long().clamp(-1, 1) + 1), self.folder / "data.pt")

    def setup(self, stage: str) -> None:
        assert stage in ("fit", "validate", "test", "predict")
        generator = torch.Generator().manual_seed(42)
        images = TensorDataset(*torch.load(self.folder / "data.pt"))
        self.training, self.validation, self.testing = random_split(images, [16, 4, 4], generator=generator)

    def train_dataloader(self) -> Any:
        return DataLoader(self.training, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.validation, self.batch_size)

    def test_dataloader(self) -> Any:
        return DataLoader(self.testing, self.batch_size)

    predict_dataloader = test_dataloader


class Unfreezes(BaseFinetuning):
    """First the head, then a part of the backbone, at a smaller rate."""

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        self.freeze(pl_module.backbone, train_bn=False)

    def finetune_function(self, pl_module: LightningModule, epoch: int, optimizer: Optimizer) -> None:
        if epoch == 1:
            part = pl_module.backbone[2:]  # type: ignore[index]
            self.unfreeze_and_add_param_group(part, optimizer, initial_denom_lr=10)


class Classifier(LightningModule):
    """A backbone that is frozen first, and a head."""

    def __init__(self, lr: float = 0.05) -> None:  # noqa: ARG002 - among the hyperparameters
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(1)
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 3)
        self.accuracy = MulticlassAccuracy(3)

    def forward(self, pixels: Tensor) -> Any:
        return self.head(self.backbone(pixels))

    def training_step(self, batch: list[Tensor], _index: int) -> Any:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], _index: int) -> None:
        found = self(batch[0])
        self.accuracy(found, batch[1])
        self.log("val_loss", nn.functional.cross_entropy(found, batch[1]), sync_dist=True)
        self.log("val_acc", self.accuracy, prog_bar=True)

    test_step = validation_step

    def predict_step(self, batch: list[Tensor], _index: int) -> Any:
        return self(batch[0]).argmax(1)

    def configure_optimizers(self) -> Any:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, self.hparams["lr"])
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2], 0.5)]


@program("one", "two", "disks", reloads=True)
def transfer_learning(_start: int) -> Any:
    """The backbone is unfrozen by ``BaseFinetuning``, and the best model is tested."""
    callbacks = [Unfreezes(), ModelCheckpoint("models", monitor="val_loss")]
    t, m = trainer(enable_checkpointing=True, callbacks=callbacks, max_epochs=3), Classifier()
    t.fit(m, datamodule=Images())
    trained = {
        "weights": weights(m),
        "groups": len(t.optimizers[0].param_groups),
        "metrics": logged(t.callback_metrics),
    }
    return trained | {"tested": t.test(datamodule=Images(), ckpt_path="best", verbose=False)}


class Adversarial(LightningModule):
    """A generator and a discriminator, optimized by hand; samples are drawn for the logger by rank zero."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(1)
        self.generator, self.discriminator = nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 1), nn.Sigmoid())
        self.fixed = torch.randn(3, 4)

    def forward(self, noise: Tensor) -> Any:
        return self.generator(noise)

    def training_step(self, batch: list[Tensor], _index: int) -> None:
        optimizers: Any = self.optimizers()
        real, noise = batch[0], torch.randn(len(batch[0]), 4).type_as(batch[0])
        loss_of = nn.functional.binary_cross_entropy
        valid = torch.ones(len(real), 1)
        self.toggle_optimizer(optimizers[0])
        loss = loss_of(self.discriminator(self(noise)), valid)
        self._step(optimizers[0], loss, "g_loss")
        self.toggle_optimizer(optimizers[1])
        fake = loss_of(self.discriminator(self(noise).detach()), 1 - valid)
        self._step(optimizers[1], (loss_of(self.discriminator(real), valid) + fake) / 2, "d_loss")

    def _step(self, optimizer: Any, loss: Tensor, name: str) -> None:
        self.log(name, loss, prog_bar=True)
        self.manual_backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        self.untoggle_optimizer(optimizer)

    def validation_step(self, _batch: list[Tensor], _index: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self._draw(f"sample-{self.current_epoch}.txt")

    @rank_zero_only
    def _draw(self, name: str) -> None:
        Path(name).write_text(str(self(self.fixed).tolist()))

    def configure_optimizers(self) -> Any:
        adam = [
            torch.optim.Adam(part.parameters(), 0.01, (0.5, 0.999)) for part in (self.generator, self.discriminator)
        ]
        return adam, []


@program("one", "two", "disks")
def generative_adversarial_network(_start: int) -> Any:
    t, m = trainer(logger=CSVLogger("logs"), **_unused()), Adversarial()
    t.fit(m, loader(), loader(8))
    return {"weights": weights(m), "step": t.global_step, "metrics": logged(t.callback_metrics)}


def _unused() -> dict[str, str]:
    return {"strategy": "ddp_find_unused_parameters_true"} if "strategy" in world() else {}


class Reconstructs(Callback):
    """Rank zero keeps what the model makes of a batch."""

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with torch.no_grad():
            pl_module.eval()
            found = pl_module(torch.ones(1, 8))
            pl_module.train()
        Path(trainer.default_root_dir, f"images-{trainer.current_epoch}.txt").write_text(str(found.tolist()))


class Autoencoder(LightningModule):
    """An encoder and a decoder, which ``LightningCLI`` makes."""

    def __init__(self, hidden: int = 3, learning_rate: float = 0.05) -> None:  # noqa: ARG002 - among the hyperparameters
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(1)
        self.encoder, self.decoder = nn.Linear(8, hidden), nn.Linear(hidden, 8)

    def forward(self, x: Tensor) -> Any:
        return self.decoder(self.encoder(x))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        return self._common(batch, "train", batch_idx)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self._common(batch, "val", batch_idx)

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self._common(batch, "test", batch_idx)

    def predict_step(self, batch: list[Tensor], _index: int) -> Any:
        return self(batch[0])

    def _common(self, batch: list[Tensor], stage: str, _index: int) -> Any:
        loss = nn.functional.mse_loss(self(batch[0]), batch[0])
        self.log(f"{stage}_loss", loss, on_step=True)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), self.hparams["learning_rate"])


class Rows(LightningDataModule):
    """Loaders of rows."""

    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return loader(batch_size=self.batch_size)

    def val_dataloader(self) -> Any:
        return loader(8, batch_size=self.batch_size)

    test_dataloader = predict_dataloader = val_dataloader


@program("one", "two", "disks", reloads=True)
def autoencoder_by_command_line(_start: int) -> Any:
    """``LightningCLI(run=False)``, and its Trainer fits, tests and predicts with the best."""
    defaults = PLAIN | world() | {"callbacks": [Reconstructs(), ModelCheckpoint(monitor="val_loss")]}
    cli = LightningCLI(
        Autoencoder,
        Rows,
        run=False,
        seed_everything_default=1234,
        save_config_kwargs={"overwrite": True},
        trainer_defaults=defaults | {"logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "logs"}}},
        args=["--model.hidden=2", "--trainer.max_epochs=1"],
    )
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    tested = cli.trainer.test(ckpt_path="best", datamodule=cli.datamodule, verbose=False)
    predicted: Any = cli.trainer.predict(ckpt_path="best", datamodule=cli.datamodule)
    return {"weights": weights(cli.model), "tested": tested, "predicted": [batch.tolist() for batch in predicted]}


@program("two", "disks")
def loop_by_hand_after_a_fit(_start: int) -> Any:
    """The trained module, in a loop of the script's own on each rank, and its state saved by rank zero."""
    t, m = trainer(), Model()
    t.fit(m, loader())
    m.eval()
    with torch.inference_mode():
        found = [m.net(batch[0]).sum().item() for batch in loader(8)]
    if t.is_global_zero:
        torch.save(m.state_dict(), "model.pt")
    t.strategy.barrier()
    return fitted(m, t) | {"found": found, "sum": float(t.strategy.reduce(torch.tensor(found).sum(), reduce_op="sum"))}
