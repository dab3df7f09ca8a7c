"""One download per host: what Lightning guards itself, and what `once_per_node` guards.

Nothing is really downloaded here, so the script runs without a network.
"""

import tempfile
from pathlib import Path

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_sagemaker import once_per_node

DATA = Path(tempfile.gettempdir()) / "rings"  # on the host's own disk


def download_labels() -> list[str]:
    print("downloading the labels", flush=True)
    return ["inner", "middle", "outer"]


def download_samples(path: Path) -> None:
    print("downloading the samples", flush=True)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (960,), generator=generator)
    angles = torch.rand(960, generator=generator) * 2 * torch.pi
    radii = labels + 0.5 + 0.2 * torch.rand(960, generator=generator)
    draft = path.with_suffix(".part")  # a process that is killed here leaves no half of a file behind
    torch.save({"x": torch.stack((radii * angles.cos(), radii * angles.sin()), dim=1), "y": labels}, draft)
    draft.replace(path)


class Rings(L.LightningDataModule):
    def prepare_data(self) -> None:
        """Lightning calls this in one process per host, and the others wait: no lock is needed."""
        DATA.mkdir(exist_ok=True)
        if not (DATA / "samples.pt").exists():
            download_samples(DATA / "samples.pt")

    def setup(self, stage: str) -> None:
        samples = torch.load(DATA / "samples.pt")
        self.checksum = samples["x"].double().sum().item()
        data = TensorDataset(samples["x"], samples["y"])
        self.train, self.test = torch.utils.data.random_split(
            data, [720, 240], generator=torch.Generator().manual_seed(0)
        )

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.train, batch_size=12, shuffle=True)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.test, batch_size=60)


class Classifier(L.LightningModule):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, classes))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("accuracy", (self.net(x).argmax(dim=1) == y).float().mean(), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.02)


def main() -> None:
    # The model needs the labels before there is a Trainer. All processes of the host come here at once: one of them
    # downloads, all get its value.
    labels = once_per_node(download_labels, key="labels", timeout=600)

    L.seed_everything(42)
    rings = Rings()
    trainer = L.Trainer(
        max_epochs=6,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Classifier(len(labels))
    trainer.fit(model, rings)
    accuracy = trainer.test(model, rings, verbose=False)[0]["accuracy"]
    print(f"rank {trainer.global_rank} of {trainer.world_size}: labels {'/'.join(labels)}, data {rings.checksum:.6f}")
    if trainer.is_global_zero:
        print(f"accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
