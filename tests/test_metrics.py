"""Lines of metrics, from real Trainers of both distributions."""

from __future__ import annotations

import importlib.util
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

trainer = Trainer(max_epochs=2, accelerator="cpu", strategy=os.environ["STRATEGY"], logger=False, devices=2,
                  enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                  limit_train_batches=4, limit_val_batches=1, num_sanity_val_steps=2)
trainer.fit(Model())
assert float(trainer.callback_metrics["count"]) == 12, trainer.callback_metrics
"""


def run(package: str, **environ: str) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec(package.partition(".")[0]) is None:
        pytest.skip(f"`{package}` is not installed")
    return subprocess.run(
        [sys.executable, "-c", FIT.format(package=package)],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def fit(package: str, **environ: str) -> list[str]:
    done = run(package, **environ)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if metrics.BEGIN in line]


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_every_epoch_prints_what_has_changed_and_definitions_find_it(package: str) -> None:
    lines = fit(package, LIGHTNING_SAGEMAKER_METRICS="1")
    found = {
        name: [float(value[1]) for line in lines if (value := re.search(metrics.pattern(name), line))]
        for name in ("step", "val/loss", "train_loss_epoch")
    }
    assert found["val/loss"] == [0.0, 1.0]
    assert found["train_loss_epoch"] == [1.5, 5.5]
    assert found["step"] == sorted(found["step"])
    assert found["step"][-1] == 8
    assert lines[-1] == "lightning_sagemaker metrics: epoch=2; step=8; test_loss=0.25;"
    assert len(lines) == 5


PACKAGE = "lightning.pytorch" if importlib.util.find_spec("lightning") else "pytorch_lightning"


@pytest.mark.parametrize("environ", [{}, {"LIGHTNING_SAGEMAKER_METRICS": "off"}])
def test_without_the_setting_nothing_is_printed(environ: dict[str, str]) -> None:
    assert fit(PACKAGE, **environ) == []


def test_a_malformed_setting_is_an_error_of_the_trainer_that_names_it() -> None:
    done = run(PACKAGE, LIGHTNING_SAGEMAKER_METRICS="perhaps")
    assert done.returncode == 1
    assert "ValueError: Environment variable `LIGHTNING_SAGEMAKER_METRICS`='perhaps'; expected 1" in done.stderr


@pytest.mark.parametrize("strategy", ["ddp", "smddp"])
def test_ranks_compute_together_what_rank_zero_prints(tmp_path: Path, strategy: str) -> None:
    script = tmp_path / "train.py"
    script.write_text(TWO_RANKS.format(package=PACKAGE))
    command = [
        *(Path(sys.executable).with_name("lightning-sagemaker"), "simulate", "--processes-per-host", "2"),
        *("--distribution", "torch_distributed", "--env", "LIGHTNING_SAGEMAKER_METRICS=1"),
        *("--env", f"STRATEGY={strategy}", script),
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.partition(metrics.BEGIN)[2] for line in done.stdout.splitlines() if metrics.BEGIN in line]
    assert lines == [
        " epoch=0; step=4; value=0.5;",
        " epoch=0; step=4; count=12; mean=0.5;",
        " epoch=1; step=8;",
        " epoch=1; step=8;",
    ]
