"""A Fabric run that uses what SMDDP is short of; the counterpart of train_with_trainer.py."""

import argparse
import importlib
import json
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train(package: str, strategy_name: str, out: Path) -> None:
    fabric = importlib.import_module(package).Fabric(accelerator="cpu", strategy=strategy_name)
    fabric.launch()
    order = out / "order"
    with fabric.rank_zero_first(), order.open("a") as lines:
        lines.write(f"{fabric.global_rank}\n")
    with fabric.rank_zero_first(local=True):
        pass

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 6, generator=generator)
    y = (x.sum(1, keepdim=True) > 0).float()
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    model, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), lr=1e-2))
    loader = fabric.setup_dataloaders(DataLoader(TensorDataset(x, y), batch_size=4))
    losses = []
    for index, (inputs, targets) in enumerate(loader):
        with fabric.no_backward_sync(model, enabled=index % 2 == 0):
            loss = nn.functional.binary_cross_entropy_with_logits(model(inputs), targets)
            fabric.backward(loss)
        losses.append(float(fabric.all_reduce(loss.detach())))
        if index % 2:
            fabric.clip_gradients(model, optimizer, max_norm=0.5)
            optimizer.step()
            optimizer.zero_grad()
    fabric.barrier()

    embedding = torch.full((2,), float(fabric.global_rank), requires_grad=True)
    gathered = fabric.all_gather(embedding, sync_grads=True)
    (gathered * torch.arange(1.0, fabric.world_size + 1).unsqueeze(1)).sum().backward()
    assert embedding.grad is not None
    reduced = {
        f"{dtype} {operation}": fabric.all_reduce(
            torch.tensor([2, fabric.global_rank + 1], dtype=dtype), reduce_op=operation
        ).tolist()
        for dtype in (torch.float32, torch.int64)
        for operation in ("mean", "sum", "min", "max")
    }
    Path(out, f"{fabric.global_rank}.json").write_text(
        json.dumps(
            {
                "strategy": type(fabric.strategy).__name__,
                "backend": torch.distributed.get_backend(),
                "stated_backend": fabric.strategy.process_group_backend,
                "losses": losses,
                "weights": torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).tolist(),
                "reduced": reduced,
                "gathered": gathered.flatten().tolist(),
                "gradient": embedding.grad.tolist(),
                "broadcast": fabric.broadcast({"from": fabric.global_rank}, src=1),
                "nested": fabric.all_gather({"rank": torch.tensor(fabric.global_rank)})["rank"].tolist(),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--packages", nargs="+", required=True)
    parser.add_argument("--strategy", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for package in arguments.packages:
        folder = arguments.out / package
        folder.mkdir(exist_ok=True)
        train(package, arguments.strategy, folder)


if __name__ == "__main__":
    main()
