"""Handwritten digits, classified by a small network: fit, validate, test, predict."""

import argparse

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Digits(L.LightningDataModule):
    """The 1,797 digits of 8 x 8 pixels that ship with scikit-learn."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        pixels, labels = load_digits(return_X_y=True)
        images = torch.tensor(pixels, dtype=torch.float32).div(16).view(-1, 1, 8, 8)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        data = TensorDataset(images[order], torch.tensor(labels)[order])
        self.train, self.val, self.test = torch.utils.data.random_split(
            data,
            [1297, 200, 300],
            generator=torch.Generator().manual_seed(0),
        )

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.val, batch_size=self.batch_size)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.test, batch_size=self.batch_size)

    def predict_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.test, batch_size=self.batch_size)


class Classifier(L.LightningModule):
    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * 4 * 4, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self(images), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluate(batch, "test")

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        predicted: Tensor = self(batch[0]).argmax(dim=1)
        return predicted

    def evaluate(self, batch: tuple[Tensor, Tensor], name: str) -> None:
        images, labels = batch
        logits = self(images)
        self.log(f"{name}_loss", F.cross_entropy(logits, labels), sync_dist=True)
        self.log(f"{name}_accuracy", (logits.argmax(dim=1) == labels).float().mean(), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16, help="per process")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--strategy", default="auto")
    arguments = parser.parse_args()

    L.seed_everything(42)
    digits = Digits(arguments.batch_size)
    model = Classifier(arguments.lr)
    trainer = L.Trainer(
        max_epochs=arguments.epochs,
        accelerator="auto",
        strategy=arguments.strategy,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, digits)
    trainer.validate(model, digits, verbose=False)
    metrics = trainer.test(model, digits, verbose=False)[0]
    predictions = trainer.predict(model, digits) or []

    if trainer.is_global_zero:
        print(f"world size: {trainer.world_size}")
        print(f"ranks per host: {trainer.num_devices}")
        print(f"predictions on rank 0: {sum(map(len, predictions))}")
        print(f"test accuracy: {metrics['test_accuracy']:.3f}")


if __name__ == "__main__":
    main()
