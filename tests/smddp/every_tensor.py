"""Tensors of every kind through all collectives of a Trainer's and a Fabric's strategy, and through ``self.log``.

Run with native DDP and with ``smddp``, and compared: the same values, or the same type of exception.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric import Fabric
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from collections.abc import Callable

# Not int16: gloo refuses it in a thread of its own, and once its next barrier let one rank pass and kept the other.
DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool", "complex64")
OPERATIONS = ("mean", "sum", "min", "max", "product")
# Memory with gaps or repetitions, or that is to be negated: gloo takes it for a plain vector, so stock reads and writes
# other values than the tensor's, also beyond its end ("free(): invalid next size"). And stock cannot divide what was
# made in inference mode. What is right here is what stock makes of a plain copy.
LOOSE = ("strided", "expanded", "expanded 0-dim", "expanded int", "overlapping", "negated")
INFERENCE = ("inference", "inference transposed", "inference int")


def _made(dtype: str, rank: int) -> Tensor:
    return (torch.arange(6).reshape(2, 3) * (rank + 2) % 5).to(getattr(torch, dtype))


def _in_inference_mode(make: Callable[[], Tensor]) -> Tensor:
    with torch.inference_mode():
        return make()


def tensors(rank: int) -> dict[str, Callable[[], Tensor]]:
    """Makers of tensors by kind; the same shape on all ranks, other values."""

    def plain() -> Tensor:
        return _made("float32", rank)

    def with_gradient() -> Tensor:
        return plain().requires_grad_()

    def with_graph() -> Tensor:
        return with_gradient() * 2

    def imaginary() -> Tensor:
        return _made("complex64", rank) * 1j

    kinds: dict[str, Callable[[], Tensor]] = {dtype: lambda dtype=dtype: _made(dtype, rank) for dtype in DTYPES}  # type: ignore[misc]
    return kinds | {
        "0-dim": lambda: plain()[1, 1],
        "0-dim int": lambda: _made("int64", rank)[1, 1],
        "empty": lambda: plain()[:0],
        "transposed": lambda: plain().t(),
        "strided": lambda: plain()[:, ::2],
        "channels last": lambda: plain().reshape(1, 2, 3, 1).to(memory_format=torch.channels_last),
        "expanded": lambda: plain()[:, :1].expand(2, 4),
        "expanded 0-dim": lambda: plain()[1, 1].expand(3),
        "expanded int": lambda: _made("int64", rank)[:1].expand(2, 3),
        "overlapping": lambda: plain().flatten().unfold(0, 4, 1),
        "leaf": with_gradient,
        "transposed leaf": lambda: plain().t().requires_grad_(),
        "with a graph": with_graph,
        "0-dim with a graph": lambda: with_graph().sum(),
        "transposed with a graph": lambda: with_graph().t(),
        "parameter": lambda: torch.nn.Parameter(plain()),
        "inference": lambda: _in_inference_mode(plain),
        "inference transposed": lambda: _in_inference_mode(plain).t(),
        "inference int": lambda: _in_inference_mode(lambda: _made("int64", rank)),
        "conjugated": lambda: imaginary().conj(),
        "negated": lambda: imaginary().conj().imag,
        "sparse": lambda: plain().to_sparse(),
        "sparse with repetitions": lambda: torch.sparse_coo_tensor(torch.tensor([[0, 0, rank]]), torch.ones(3), (4,)),
        "sparse rows": lambda: plain().to_sparse_csr(),
        "not a number": lambda: torch.tensor([float("nan"), float("inf"), float(rank)]),
    }


def collections(rank: int) -> dict[str, Any]:
    """What is no tensor, or holds some."""
    one = torch.tensor([float(rank)])
    return {
        "dict": {"a": one.clone(), "b": [one.clone(), (one.clone() + 1, "text")], "c": None},
        "tuple": (one.clone(), one.clone().long()),
        "numbers": {"int": rank, "float": rank + 0.5, "bool": rank == 0},
        "nothing": None,
        "text": f"rank {rank}",
        "empty": [],
    }


def described(value: Any) -> Any:
    """What of an object is the same wherever it was made the same way."""
    if isinstance(value, Tensor):
        dense = value.detach() if value.layout is torch.strided else value.detach().to_dense()
        flags = (value.dtype, value.layout, tuple(value.shape), value.requires_grad)
        return [*map(str, flags), str(dense.resolve_conj().resolve_neg().tolist())]
    if isinstance(value, dict):
        return {key: described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(described, value)]
    return [type(value).__name__, str(value)]


def asked(answers: dict[str, Any], name: str, question: Callable[[], Any]) -> None:
    """Write down the answer, or the type of the exception."""
    try:
        answers[name] = described(question())
    except Exception as error:  # noqa: BLE001 - the other strategy must raise the same
        answers[name] = type(error).__name__


def _reduced(reduce: Any, kind: str, tensor: Tensor, operation: str) -> Any:
    """With the gradient that comes back through the result, where one does."""
    is_ours = "SMDDP" in type(reduce.__self__).__name__
    if not is_ours and (kind in LOOSE or (kind in INFERENCE and operation == "mean")):
        kept = torch.preserve_format if kind in INFERENCE else torch.contiguous_format
        tensor = tensor.resolve_neg().clone(memory_format=kept)
    start = torch.ones((), requires_grad=True)
    if tensor.requires_grad and not tensor.is_leaf:
        tensor = (tensor * start).relu()  # its backward reads what the collective writes to
    returned = reduce(tensor, reduce_op=operation)
    if not tensor.is_leaf:
        returned.sum().backward()
    return {"returned": returned, "given": tensor, "in place": returned is tensor, "gradient": start.grad}


def _gathered(gather: Any, tensor: Tensor, rank: int) -> Any:
    """With the gradient that comes back, where one does."""
    tensor = tensor.detach().clone().requires_grad_() if tensor.is_leaf and tensor.requires_grad else tensor
    gathered = gather(tensor, sync_grads=True)
    if gathered.requires_grad and tensor.is_leaf:
        (gathered * (rank + 1)).sum().backward()
    return {"gathered": gathered, "gradient": tensor.grad if tensor.is_leaf else None}


def _of_collectives(reduce: Any, gather: Any, broadcast: Any, rank: int) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for kind, make in tensors(rank).items():
        for operation in OPERATIONS:
            asked(answers, f"{operation} {kind}", lambda: _reduced(reduce, kind, make(), operation))  # noqa: B023 - at once
        asked(answers, f"gather {kind}", lambda: gather(make()))  # noqa: B023
        asked(answers, f"gather with gradients {kind}", lambda: _gathered(gather, make(), rank))  # noqa: B023
        asked(answers, f"broadcast {kind}", lambda: broadcast(make(), src=1))  # noqa: B023
    for kind, value in collections(rank).items():
        asked(answers, f"broadcast {kind}", lambda: broadcast(value, src=1))  # noqa: B023
    with torch.no_grad():
        asked(answers, "without gradients", lambda: gather(torch.ones(2, requires_grad=True), sync_grads=True))
    with torch.inference_mode():
        for kind in ("float32", "int64", "transposed"):
            asked(answers, f"in inference mode: {kind}", lambda: _reduced(reduce, kind, tensors(rank)[kind](), "mean"))  # noqa: B023
            asked(answers, f"in inference mode: gather {kind}", lambda: gather(tensors(rank)[kind](), sync_grads=True))  # noqa: B023
    return answers


def of_fabric(fabric: Fabric) -> dict[str, Any]:
    """Answers of a launched Fabric."""
    rank = fabric.global_rank
    answers = _of_collectives(fabric.strategy.all_reduce, fabric.all_gather, fabric.broadcast, rank)
    for kind in collections(rank):
        asked(answers, f"all_reduce {kind}", lambda: fabric.all_reduce(collections(rank)[kind]))  # noqa: B023
        asked(answers, f"all_gather {kind}", lambda: fabric.all_gather(collections(rank)[kind]))  # noqa: B023
    return answers


class _Asks(LightningModule):
    """Asks in its only training step, and in its only validation step, which is in inference mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.answers: dict[str, Any] = {}

    def training_step(self, batch: Tensor, _index: int) -> Tensor:
        rank, strategy = self.global_rank, self.trainer.strategy
        self.answers |= _of_collectives(strategy.reduce, self.all_gather, strategy.broadcast, rank)
        for kind in collections(rank):
            asked(self.answers, f"all_gather {kind}", lambda: self.all_gather(collections(rank)[kind]))  # noqa: B023
            asked(self.answers, f"reduce {kind}", lambda: strategy.reduce(collections(rank)[kind]))  # noqa: B023
        self._log_all("step", on_step=True, on_epoch=True)
        self._log_all("graph", on_step=True, on_epoch=False, enable_graph=True)
        loss: Tensor = self.layer(batch).sum()
        return loss

    def validation_step(self, _batch: Tensor, _index: int) -> None:
        self._log_all("validation")

    def _log_all(self, stage: str, **options: Any) -> None:
        rank = self.global_rank
        values: dict[str, Any] = {
            kind: make() if make().numel() == 1 else make().flatten()[:1]
            for kind, make in tensors(rank).items()
            if make().layout is torch.strided and make().numel()
        }
        values |= {"int": rank, "float": rank + 0.5, "bool": rank == 0, "two numbers": torch.ones(2)}
        values |= {"empty": torch.empty(0), "dict": {"a": rank, "b": torch.tensor(rank)}}
        values |= {"sparse": torch.ones(1).to_sparse(), "text": "text", "nothing": None}
        for kind, value in values.items():
            for reduction in ("mean", "sum", "max"):
                name = f"{stage} {kind} {reduction}"
                arguments = {"sync_dist": True, "reduce_fx": reduction} | options
                asked(self.answers, f"log {name}", lambda: self.log(name, value, **arguments))  # noqa: B023

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.0)


def of_trainer(**arguments: Any) -> dict[str, Any]:
    """Answers of a Trainer in its steps, and the metrics that are left."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
    }
    options: dict[str, Any] = {"max_epochs": 1, "num_sanity_val_steps": 0, "enable_model_summary": False}
    trainer, model = Trainer(**quiet, **options, **arguments), _Asks()
    loader: Any = DataLoader(torch.ones(2, 1))  # type: ignore[arg-type]
    trainer.fit(model, loader, loader)
    return model.answers | {f"metric {name}": described(value) for name, value in trainer.callback_metrics.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategy", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # hundreds, of the conversion of what is logged
    world = {"strategy": arguments.strategy, "devices": 2}
    fabric = Fabric(accelerator="cpu", **world)
    fabric.launch()
    answers = {"fabric": of_fabric(fabric), "trainer": of_trainer(**world)}
    found = json.dumps(answers | {"backend": torch.distributed.get_backend()})
    Path(arguments.out, f"{fabric.global_rank}.json").write_text(found)


if __name__ == "__main__":
    main()
