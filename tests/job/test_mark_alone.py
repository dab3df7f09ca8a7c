"""A mark without hosts is no job: processing containers, workstations and notebooks may have one left over.

Real processes, since patches look when Lightning is imported (for `doctor`: tests/doctor/test_broken.py). Who asks for
the job by name is told what is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_SCRIPT = """
import json, logging, os, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
out = Path(sys.argv[1])
logging.getLogger("lightning_sagemaker").propagate = False
found = {}

def told(ask):
    try:
        return repr(ask())
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def trained():
    quiet = dict(max_epochs=1, limit_train_batches=2, limit_val_batches=1, logger=False, accelerator="cpu", devices=1)
    quiet |= dict(enable_progress_bar=False, enable_model_summary=False, default_root_dir=out)
    trainer = Trainer(**quiet)
    trainer.fit(BoringModel())
    return [type(trainer.strategy).__name__, trainer.num_nodes, trainer.world_size, trainer.global_step,
            sorted(str(path.relative_to(out)) for path in out.rglob("*.ckpt")), dict(os.environ) == before]

before = dict(os.environ)
found["trained"] = told(trained)
if "lightning_sagemaker" in sys.modules:
    import lightning_sagemaker as ls
    from lightning_sagemaker.smddp.availability import advise_on_sync_batchnorm
    def locked():
        with ls.node_lock("work"):
            return "locked"
    asks = dict(job=ls.SageMakerJob.detect, environment=ls.SageMakerEnvironment.detect, made=ls.SageMakerEnvironment,
                locked=locked, once=lambda: ls.once_per_node(lambda: 3, key="work"), latest=ls.latest_checkpoint,
                smddp=lambda: type(Trainer(strategy="smddp", accelerator="cpu", logger=False).strategy).__name__,
                batchnorm=advise_on_sync_batchnorm)
    found |= {name: told(ask) for name, ask in asks.items()}
(out / "found.json").write_text(json.dumps(found))
"""


@pytest.mark.parametrize("mark", ["TRAINING_JOB_ARN", "TRAINING_JOB_NAME"])
def test_a_mark_alone_changes_nothing_and_who_asks_is_told(tmp_path: Path, mark: str) -> None:
    def run(name: str, **variables: str) -> dict[str, Any]:
        out = tmp_path / name
        out.mkdir()
        foreign = ("LIGHTNING_SAGEMAKER", "SM_", "TRAINING_JOB", "SAGEMAKER")
        plain = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        environment = {**plain, mark: "stray", "SAGEMAKER_BASE_DIR": str(tmp_path / "nowhere"), **variables}
        command = [sys.executable, "-c", _SCRIPT, str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        assert "lightning_sagemaker" not in done.stderr
        return json.loads((out / "found.json").read_text())  # type: ignore[no-any-return]

    stock = run("without", LIGHTNING_SAGEMAKER_AUTOLOAD="0")
    found = run("with", LIGHTNING_SAGEMAKER_LOCK_DIR=str(tmp_path))
    assert found["trained"] == stock["trained"]
    assert "'SingleDeviceStrategy', 1, 1, 2, [" in found["trained"]
    works = {"locked": "'locked'", "once": "3", "latest": "None", "smddp": "'SMDDPStrategy'", "batchnorm": "None"}
    assert {name: found[name] for name in works} == works
    if mark == "TRAINING_JOB_ARN":  # SageMaker alone sets it: who asks in a job whose file is hidden has to know
        for ask in ("job", "environment", "made"):
            assert found[ask].startswith("FileNotFoundError: TRAINING_JOB_ARN='stray' says that this is a SageMaker")
            assert "HINT: " in found[ask]
    else:
        assert (found["job"], found["environment"]) == ("None", "False")
        assert found["made"].startswith("RuntimeError: SageMakerEnvironment was made outside a SageMaker training job")
