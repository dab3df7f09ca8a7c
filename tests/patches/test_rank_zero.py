"""Who ``rank_zero_only`` lets through before there is a Trainer."""

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

PACKAGES = [name for name in ("lightning.pytorch", "pytorch_lightning") if importlib.util.find_spec(name.split(".")[0])]
SCRIPT = """
import sys
from importlib import import_module
package = sys.argv[1]
pl = import_module(package)
only = import_module(f"{package}.utilities").rank_zero_only
fabric = "lightning.fabric" if package.startswith("lightning.") else "lightning_fabric"
LightningEnvironment = import_module(f"{fabric}.plugins.environments").LightningEnvironment
said = []
only(lambda: said.append("early"))()
if sys.argv[2:] == ["apart"]:
    pl.Trainer(accelerator="cpu", devices=1, plugins=[LightningEnvironment()], logger=False, enable_checkpointing=False)
    only(lambda: said.append("apart"))()
print("SAID", *said)
"""


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(
    ("host", "environ", "said"),
    [
        ("algo-1", {}, "early"),
        ("algo-2", {}, ""),
        ("algo-2", {}, "apart"),
        ("algo-2", {"LIGHTNING_SAGEMAKER_DISABLE": "rank_zero"}, "early"),
        ("algo-1", {"RANK": "1", "LOCAL_RANK": "1"}, ""),
    ],
    ids=["first host", "second host", "a Trainer apart", "switched off", "mpirun"],
)
def test_once_in_the_job(tmp_path: Path, package: str, host: str, environ: dict[str, str], said: str) -> None:
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    resources = {"current_host": host, "hosts": ["algo-1", "algo-2"]}
    (config / "resourceconfig.json").write_text(json.dumps(resources))
    (tmp_path / "script.py").write_text(SCRIPT)
    job = {"TRAINING_JOB_NAME": "digits", "SAGEMAKER_BASE_DIR": str(tmp_path)}
    if "RANK" in environ:
        environ = {f"OMPI_COMM_WORLD_{name}": value for name, value in environ.items()}
        environ |= {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), package, *(["apart"] if said == "apart" else [])],
        env=os.environ | job | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:] == said.split()
