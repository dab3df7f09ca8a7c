"""Fabric in a job of several hosts, before ``launch()``."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = [name for name in ("lightning.fabric", "lightning_fabric") if importlib.util.find_spec(name.split(".")[0])]
SCRIPT = """
import sys
from importlib import import_module
import torch
fabric = import_module(sys.argv[1]).Fabric(accelerator="cpu", devices=1)
try:
    fabric.setup(torch.nn.Linear(2, 2))
except RuntimeError as error:
    print(error)
"""


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("hosts", [1, 2])
def test_without_launch_the_error_says_why_it_is_needed_on_several_hosts(
    tmp_path: Path, package: str, hosts: int
) -> None:
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    resources = {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"][:hosts]}
    (config / "resourceconfig.json").write_text(json.dumps(resources))
    job = {"TRAINING_JOB_NAME": "digits", "SAGEMAKER_BASE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT, package]
    said = subprocess.check_output(command, env=os.environ | job, text=True)
    if hosts == 1:
        assert said == ""
    else:
        assert said.startswith("Fabric was not launched, and 2 hosts of this SageMaker job train together, also where")
        assert "HINT: call `fabric.launch()` right after `Fabric(...)`" in said
