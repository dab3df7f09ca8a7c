"""Two hosts with a disk each, as on SageMaker: what rank zero has written lies on its own."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.tuner.tuning import Tuner

from tests.beside_stock.model import Model, loader, trainer, weights, world
from tests.beside_stock.registry import ANY, ONCE, situation

# Stock assumes a disk that all hosts share, and fails where the second host looks for the file.
SENT = {"same_checkpoint": {"exit code": 0, "rank *: result": ANY, "files in*": ANY, "content of*": ANY}}


def _fitted(**arguments: Any) -> Any:
    callback = ModelCheckpoint("models", monitor="val", save_last=True)
    t, m = trainer(enable_checkpointing=True, callbacks=[callback], **arguments), Model()
    t.fit(m, loader(), loader(8))
    return t, m


@situation("disks", arms=ONCE, exit_code=1, allowed=SENT)
def best_on_own_disks(_start: int) -> Any:
    t, m = _fitted()
    expected = t.test(m, loader(8), verbose=False)
    with torch.no_grad():
        m.net.weight.zero_()
    assert t.test(m, loader(8), ckpt_path="best", verbose=False) == expected


@situation("disks", arms=ONCE, exit_code=1, allowed=SENT)
def last_on_own_disks(_start: int) -> Any:
    first, _ = _fitted()
    last = first.checkpoint_callback.last_model_path
    t, m = trainer(max_epochs=4), Model(seed=2)
    t.fit(m, loader(), loader(8), ckpt_path=last)
    assert (m.seen, t.current_epoch) == (8, 4)


@situation("disks", arms=ONCE, exit_code=1, allowed=SENT)
def rate_search_on_own_disks(_start: int) -> Any:
    """``Tuner.lr_find`` restores what rank zero has saved (pytorch-lightning#18812, #4280)."""
    t, m = trainer(), Model()
    before = weights(m)
    found = Tuner(t).lr_find(m, loader(), num_training=3, update_attr=False)
    assert found is not None
    assert weights(m) == before


@situation("disks", arms=ONCE, exit_code=1, allowed=SENT)
def fabrics_file_on_own_disks(_start: int) -> Any:
    fabric = Fabric(**({"accelerator": "cpu"} | world()))
    fabric.launch()
    torch.manual_seed(fabric.global_rank)
    model = fabric.setup(torch.nn.Linear(2, 1))
    fabric.save("model.ckpt", {"model": model, "step": 7})
    assert fabric.load("model.ckpt")["step"] == 7
