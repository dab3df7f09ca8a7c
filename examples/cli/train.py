"""LightningCLI: all options of model, data and Trainer on the command line, so as hyperparameters of the job.

    python train.py --trainer.max_epochs 20 --model.lr 0.1

Needs `pip install "jsonargparse[signatures]"`. Hyperparameters are options with values: a job cannot carry the word
`fit`, so the script itself says what it does (`run=False`).
"""

import lightning as L
import torch
from lightning.pytorch.cli import LightningCLI
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Line(L.LightningDataModule):
    """Points of the line y = 2 x + 1, with noise."""

    def __init__(self, samples: int = 256, batch_size: int = 8) -> None:
        super().__init__()
        self.samples = samples
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(self.samples, 1, generator=generator)
        self.data = TensorDataset(x, 2 * x + 1 + 0.01 * torch.randn(x.shape, generator=generator))

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.data, batch_size=self.batch_size, shuffle=True)


class Regression(L.LightningModule):
    def __init__(self, lr: float = 0.3) -> None:
        super().__init__()
        self.lr = lr
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.mse_loss(self.layer(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def main() -> None:
    cli = LightningCLI(
        Regression,
        Line,
        run=False,
        seed_everything_default=42,
        save_config_callback=None,
        trainer_defaults={
            "max_epochs": 10,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    )
    cli.trainer.fit(cli.model, cli.datamodule)
    slope, intercept = cli.model.layer.weight.item(), cli.model.layer.bias.item()
    print(
        f"rank {cli.trainer.global_rank} of {cli.trainer.world_size}, after {cli.trainer.global_step} steps:"
        f" y = {slope:.6f} x + {intercept:.6f}"
    )


if __name__ == "__main__":
    main()
