"""Lines of metrics, from real Trainers of both distributions."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

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

trainer = Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                  enable_model_summary=False, limit_train_batches=4, limit_val_batches=1)
trainer.fit(Model())
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


PACKAGE = "lightning.pytorch" if importlib.util.find_spec("lightning") else "pytorch_lightning"


@pytest.mark.parametrize("environ", [{}, {"LIGHTNING_SAGEMAKER_METRICS": "off"}])
def test_without_the_setting_nothing_is_printed(environ: dict[str, str]) -> None:
    assert fit(PACKAGE, **environ) == []


def test_a_malformed_setting_is_an_error_of_the_trainer_that_names_it() -> None:
    done = run(PACKAGE, LIGHTNING_SAGEMAKER_METRICS="perhaps")
    assert done.returncode == 1
    assert "ValueError: Environment variable `LIGHTNING_SAGEMAKER_METRICS`='perhaps'; expected 1" in done.stderr
