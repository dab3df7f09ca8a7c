"""Tensors of any kind, in whatever takes them; over the fake SMDDP see tests/smddp/test_every_tensor.py."""

from __future__ import annotations

from typing import Any

from lightning.fabric import Fabric

from tests.beside_stock.model import smddp, world
from tests.beside_stock.registry import ONCE, situation
from tests.smddp import every_tensor


@situation("two", arms=ONCE, nightly=True)
def every_tensor_with_smddp(_start: int) -> Any:
    arguments = world() | {"strategy": smddp()}
    fabric = Fabric(accelerator="cpu", **arguments)
    fabric.launch()
    return {"fabric": every_tensor.of_fabric(fabric), "trainer": every_tensor.of_trainer(**arguments)}
