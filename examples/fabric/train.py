"""The training loop is yours, and Fabric makes it a distributed one: no word of hosts, devices or ranks."""

import argparse

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def samples() -> TensorDataset:
    x = torch.rand(512, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return TensorDataset(x, (x[:, 0] * x[:, 1] > 0).float())  # is the point in the first or third quadrant?


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--strategy", default="auto")
    arguments = parser.parse_args()

    fabric = Fabric(strategy=arguments.strategy)
    fabric.launch()
    fabric.seed_everything(42)

    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
    model, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters(), lr=0.02))
    loader = fabric.setup_dataloaders(DataLoader(samples(), batch_size=16, shuffle=True))
    for epoch in range(arguments.epochs):
        losses: list[Tensor] = []
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(model(x), y)
            fabric.backward(loss)
            optimizer.step()
            losses.append(loss.detach())
        mean = fabric.all_reduce(torch.stack(losses).mean(), reduce_op="mean")
        if fabric.is_global_zero:
            print(f"epoch {epoch}: loss {mean:.4f}")

    weights = sum(parameter.double().sum().item() for parameter in model.parameters())
    print(f"rank {fabric.global_rank} of {fabric.world_size}: {len(loader)} batches an epoch, weights {weights:.9f}")


if __name__ == "__main__":
    main()
