"""A Trainer run that uses what SMDDP is short of: logging of every kind, checkpoints, early stopping, prepare_data.

Run with strategy smddp and with native DDP; test_training.py compares what the two write to OUT/RANK.json.
"""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy


def dataset() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 6, generator=generator)
    return TensorDataset(x, (x[:, :3].sum(1) > 0).long() + (x[:, 3:].sum(1) > 0).long())


def make_classes(pl: Any) -> tuple[Any, Any]:  # noqa: C901 - two classes as a user writes them
    class Data(pl.LightningDataModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.prepared = False

        def prepare_data(self) -> None:
            self.prepared = True

        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(dataset(), batch_size=4)

        val_dataloader = test_dataloader = predict_dataloader = train_dataloader

    class Model(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
            self.accuracy = MulticlassAccuracy(3)
            self.prepared = False
            self.read: list[float] = []

        def prepare_data(self) -> None:
            self.prepared = True

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            rank = float(self.global_rank)
            self.log("read_at_once", rank, sync_dist=True)
            self.read.append(float(self.trainer.callback_metrics["read_at_once"]))
            for kind in ("mean", "sum", "min", "max"):
                self.log(f"step_{kind}", loss + rank, sync_dist=True, reduce_fx=kind)
            self.log("step_double", torch.tensor(rank, dtype=torch.float64), sync_dist=True)
            logged = self.trainer.strategy.reduce(torch.tensor(rank))
            self.log("reduced_by_hand", logged)
            self.read.append(float(logged))
            self.log("train_loss", loss, sync_dist=True, on_step=True, on_epoch=True)
            self.log("train_count", torch.tensor(index), sync_dist=True, reduce_fx="sum", on_step=False, on_epoch=True)
            return loss

        def evaluate(self, batch: list[Tensor], stage: str) -> None:
            logits = self.net(batch[0])
            loss = nn.functional.cross_entropy(logits, batch[1])
            self.accuracy(logits, batch[1])
            self.log(f"{stage}_accuracy", self.accuracy)
            right = logits.argmax(1) == batch[1]
            for kind in ("mean", "sum", "min", "max"):
                options = {"sync_dist": True, "reduce_fx": kind}
                self.log(f"{stage}_float_{kind}", loss, **options)
                self.log(f"{stage}_int_{kind}", right.sum() + self.global_rank, **options)
                self.log(f"{stage}_bool_{kind}", right.any(), **options)

        def validation_step(self, batch: list[Tensor]) -> None:
            self.evaluate(batch, "val")

        def test_step(self, batch: list[Tensor]) -> None:
            self.evaluate(batch, "test")

        def predict_step(self, batch: list[Tensor]) -> Tensor:
            return self.net(batch[0]).argmax(1)  # type: ignore[no-any-return]

        def on_train_epoch_end(self) -> None:
            gathered = self.all_gather(torch.tensor([float(self.global_rank)]))
            self.log("gathered", gathered.sum())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    return Data, Model


def train(package: str, strategy_name: str, out: Path) -> None:
    pl, callbacks = importlib.import_module(package), importlib.import_module(f"{package}.callbacks")
    Data, Model = make_classes(pl)  # noqa: N806
    logged: dict[str, float] = {}
    checkpoint = callbacks.ModelCheckpoint(
        dirpath=out / "checkpoints", monitor="val_float_mean", save_top_k=2, save_last=True
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        strategy=strategy_name,
        max_epochs=3,
        gradient_clip_val=0.5,
        accumulate_grad_batches=2,
        callbacks=[checkpoint, callbacks.EarlyStopping("val_float_mean", patience=2)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    model, data = Model(), Data()
    trainer.fit(model, datamodule=data)
    logged |= trainer.callback_metrics
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).tolist()
    trainer.validate(model, datamodule=data, verbose=False)
    logged |= trainer.callback_metrics
    trainer.test(model, datamodule=data, verbose=False)
    logged |= trainer.callback_metrics
    predicted = torch.cat(trainer.predict(model, datamodule=data)).tolist()
    strategy = trainer.strategy
    Path(out, f"{trainer.global_rank}.json").write_text(
        json.dumps(
            {
                "strategy": type(strategy).__name__,
                "backend": torch.distributed.get_backend(),
                "stated_backend": strategy.process_group_backend,
                "prepared": [data.prepared, model.prepared],
                "logged": {name: float(value) for name, value in logged.items()},
                "read": model.read,
                "weights": weights,
                "predicted": predicted,
                "checkpoints": sorted(path.name for path in (out / "checkpoints").iterdir()),
                "best": Path(checkpoint.best_model_path).name,
                "reduced": reductions(strategy.reduce, trainer.global_rank),
                "decision": [
                    strategy.reduce_boolean_decision(trainer.global_rank != 1, all=kind) for kind in (True, False)
                ],
                "broadcast": strategy.broadcast({"from": trainer.global_rank}, src=1),
            }
        )
    )


def reductions(reduce: Any, rank: int) -> dict[str, list[float]]:
    """Every operation that gloo and Lightning know, over several dtypes and shapes; the result is written in place."""
    results = {}
    values = {
        "float": torch.tensor([1.5, -2.0, float(rank)]),
        "nan": torch.tensor([float("nan"), 1.0]),
        "bf16": torch.tensor([1.0, 2.0 + rank], dtype=torch.bfloat16),
        "int64": torch.tensor([3, 5, rank + 1]),
        "scalar": torch.tensor(float(rank)),
        "empty": torch.empty(0),
        "strided": torch.arange(6.0).reshape(2, 3).t() + rank,
    }
    for name, value in values.items():
        for operation in ("mean", "sum", "min", "max", "product"):
            if name == "bf16" and operation == "product":
                continue
            tensor = value.clone() if name != "strided" else value.clone(memory_format=torch.preserve_format)
            returned = reduce(tensor, reduce_op=operation)
            results[f"{name} {operation}"] = [float(number) for number in returned.flatten()]
            assert returned is tensor
    bitwise = torch.distributed.ReduceOp
    for name, operator in (("and", bitwise.BAND), ("or", bitwise.BOR), ("xor", bitwise.BXOR)):
        results[name] = reduce(torch.tensor([6, 12 + rank]), reduce_op=operator).tolist()
    return results


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
