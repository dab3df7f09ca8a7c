"""Lines of metrics, from real Trainers of both distributions, in real jobs of every launcher."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_sagemaker import metrics

FIT = """
import torch
from {package} import Trainer
from {package}.demos.boring_classes import BoringModel

class Model(BoringModel):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)["loss"]
        self.log("train_loss", torch.tensor(float(self.global_step)), on_step=True, on_epoch=True)
        return loss
    def validation_step(self, batch, batch_idx):
        self.log("val/loss", torch.tensor(float(self.current_epoch)), sync_dist=True)
    def test_step(self, batch, batch_idx):
        self.log("test_loss", 0.25)
    def on_test_epoch_end(self):
        self.trainer.callback_metrics.update({{"not a number": "text", "two": torch.ones(2)}})

trainer = Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                  enable_model_summary=False, limit_train_batches=4, limit_val_batches=1)
callbacks = list(trainer.callbacks)
trainer.fit(Model())
trainer.test(Model(), verbose=False)
assert trainer.callbacks == callbacks
"""

# What a line's own reading of the metrics would break, or get wrong: collectives of the module's hook, epoch metrics
# that are computed by reductions, a metric that is no single number.
TWO_RANKS = """
import os
import torch
import torchmetrics
from {package} import Trainer
from {package}.demos.boring_classes import BoringModel

class Model(BoringModel):
    def __init__(self):
        super().__init__()
        self.matrix = torchmetrics.classification.BinaryConfusionMatrix()
    def training_step(self, batch, batch_idx):
        self.log("count", torch.tensor(1.0 + self.global_rank), on_step=False, on_epoch=True, sync_dist=True,
                 reduce_fx="sum")
        return super().training_step(batch, batch_idx)
    def on_train_epoch_end(self):
        gathered = self.all_gather(torch.tensor(float(self.global_rank)))
        assert gathered.tolist() == [0.0, 1.0]
        self.log("mean", self.trainer.strategy.reduce(torch.tensor(float(self.global_rank))))
    def validation_step(self, batch, batch_idx):
        self.matrix(torch.tensor([1, 0]), torch.tensor([1, 1]))
        self.log("matrix", self.matrix, logger=False)
        self.log("value", float(self.global_rank), sync_dist=True)

trainer = Trainer(max_epochs=2, accelerator="cpu", strategy=os.environ["STRATEGY"], logger=False,
                  enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                  limit_train_batches=4, limit_val_batches=1, num_sanity_val_steps=2)
trainer.fit(Model())
assert float(trainer.callback_metrics["count"]) == 12, trainer.callback_metrics
"""


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_every_epoch_prints_what_has_changed_and_definitions_find_it(package: str) -> None:
    if importlib.util.find_spec(package.partition(".")[0]) is None:
        pytest.skip(f"`{package}` is not installed")
    environ = os.environ | {"LIGHTNING_SAGEMAKER_METRICS": "1"}
    command = [sys.executable, "-c", FIT.format(package=package)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if metrics.BEGIN in line]
    found = {
        name: [float(value[1]) for line in lines if (value := re.search(metrics.pattern(name), line))]
        for name in ("step", "val/loss", "train_loss_epoch")
    }
    assert found["val/loss"] == [0.0, 1.0]
    assert found["train_loss_epoch"] == [1.5, 5.5]
    assert found["step"] == sorted(found["step"])
    assert found["step"][-1] == 8
    assert lines[-1] == "lightning_sagemaker metrics: epoch=2; step=8; test_loss=0.25;"
    assert [line.endswith("left)") for line in lines] == [False, True, False, True, False]


PACKAGE = "lightning.pytorch" if importlib.util.find_spec("lightning") else "pytorch_lightning"


def simulate(script: Path, text: str, *options: str, **environ: str) -> str:
    script.write_text(text)
    variables = [part for item in environ.items() for part in ("--env", "=".join(item))]
    command = [
        str(Path(sys.executable).with_name("lightning-sagemaker")),
        "simulate",
        *options,
        *variables,
        str(script),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("strategy", "distribution", "hosts"),
    [("ddp", "torch_distributed", 1), ("smddp", "torch_distributed", 1), ("ddp", "mpi", 2), ("ddp", "none", 2)],
)
def test_rank_zero_prints_what_all_ranks_have_computed_and_makes_them_compute_nothing(
    tmp_path: Path, strategy: str, distribution: str, hosts: int
) -> None:
    """A line after each batch: a collective on rank zero alone would answer one of the others'."""
    output = simulate(
        tmp_path / "train.py",
        TWO_RANKS.format(package=PACKAGE),
        *("--hosts", f"{hosts}", "--processes-per-host", f"{2 // hosts}", "--distribution", distribution),
        LIGHTNING_SAGEMAKER_METRICS="1",
        LIGHTNING_SAGEMAKER_PROGRESS="1e-9",
        STRATEGY=strategy,
    )
    lines = [line.partition(metrics.BEGIN)[2] for line in output.splitlines() if metrics.BEGIN in line]
    plain = [re.sub(r" steps_per_second=[0-9.e+]+;", " ...", line).partition(" (")[0] for line in lines]
    assert plain == [
        *(f" epoch=0; step={step}; ..." for step in (2, 3, 4)),
        " epoch=0; step=4;",
        " epoch=0; step=4; value=0.5;",
        " epoch=0; step=4; count=12; mean=0.5;",
        *(f" epoch=1; step={step}; ..." for step in (5, 6, 7, 8)),
        " epoch=1; step=8;",
        " epoch=1; step=8;",
    ]
    assert [line.partition(" (")[2] for line in (lines[3], lines[-1])] == [
        "validate: batch 1 of 1)",
        "of 8 steps, 0:00:00 left)",
    ]
    names = ("epoch", "step", "steps_per_second", "value", "count", "mean")
    found = {name: [line for line in lines if re.search(metrics.pattern(name), metrics.BEGIN + line)] for name in names}
    assert [len(found[name]) for name in names] == [12, 12, 7, 1, 1, 1]


BARS = """
import json
import os
import {package} as pl
from {package}.callbacks import TQDMProgressBar
from {package}.demos.boring_classes import BoringModel
from {package}.tuner import Tuner

os.environ["COLUMNS"] = "60"
quiet = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False, max_epochs=1,
             limit_train_batches=2, limit_val_batches=1)

class Model(BoringModel):
    lr = 0.1

def fit(name, tunes=False, **arguments):
    print("begin", name, flush=True)
    trainer = pl.Trainer(**quiet, **arguments)
    if tunes:
        Tuner(trainer).lr_find(Model(), num_training=3)
    print("tuned", flush=True)
    trainer.fit(Model())
    bar = trainer.progress_bar_callback
    print(flush=True)
    print("end", json.dumps([name, type(bar).__name__, bool(bar and bar.is_enabled)]), flush=True)

fit("by itself", tunes=True)
fit("asked for", enable_progress_bar=True)
fit("a callback", callbacks=[TQDMProgressBar()])
fit("refused", enable_progress_bar=False)
os.environ["PL_TRAINER_ENABLE_PROGRESS_BAR"] = "1"
fit("by a variable")
del os.environ["PL_TRAINER_ENABLE_PROGRESS_BAR"]
os.environ["LIGHTNING_SAGEMAKER_PROGRESS"] = "0"
fit("no progress")
os.environ["LIGHTNING_SAGEMAKER_METRICS"] = "0"
fit("no lines")
"""


def test_a_bar_draws_in_a_job_s_log_only_where_the_script_asks_for_it(tmp_path: Path) -> None:
    environ = {"LIGHTNING_SAGEMAKER_METRICS": "1", "LIGHTNING_SAGEMAKER_PROGRESS": "1e-9"}
    output = simulate(tmp_path / "train.py", BARS.format(package=PACKAGE), **environ)
    states = {name: (kind, on) for name, kind, on in map(json.loads, re.findall(r"end (\[.*\])", output))}
    assert states == {
        "by itself": ("TQDMProgressBar", False),
        "asked for": ("TQDMProgressBar", True),
        "a callback": ("TQDMProgressBar", True),
        "refused": ("NoneType", False),
        "by a variable": ("TQDMProgressBar", True),
        "no progress": ("TQDMProgressBar", True),
        "no lines": ("TQDMProgressBar", True),
    }
    for part in re.split("begin ", output)[1:]:
        name, fitted = part.partition("\n")[0], part.partition("tuned")[2].partition("end")[0]
        drawn, told = "it/s" in fitted, "left)" in fitted
        assert (drawn, told) == (states[name][1], not states[name][1]), part
