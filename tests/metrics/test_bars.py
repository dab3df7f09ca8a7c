"""What a job's log has beside a progress bar that the script asks for, with real rich and real tqdm: nothing twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_sagemaker import metrics
from tests.aside import RICH
from tests.simulate.helpers import require

pytestmark = pytest.mark.xdist_group("bars")  # the job is shared by all tests
SCRIPT = """
import json, os
os.environ["COLUMNS"] = "100"
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from lightning.pytorch.demos.boring_classes import BoringModel

class Model(BoringModel):
    def training_step(self, batch, batch_idx):
        self.log("loss", float(self.global_step), prog_bar=True)
        return super().training_step(batch, batch_idx)
    def validation_step(self, batch, batch_idx):
        self.log("val", float(self.current_epoch), prog_bar=True)

def fit(name, **arguments):
    print("begin", name, flush=True)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False,
                      max_epochs=2, limit_train_batches=3, limit_val_batches=2, **arguments)
    trainer.fit(Model())
    bar = trainer.progress_bar_callback
    print("\\nend", json.dumps([type(bar).__name__, bar.is_enabled]), flush=True)

fit("by itself")
fit("rich", callbacks=[RichProgressBar()])
fit("rich that stays", callbacks=[RichProgressBar(leave=True)])
fit("tqdm", callbacks=[TQDMProgressBar()])
fit("asked for", enable_progress_bar=True)
"""
BARS = {
    "by itself": ["RichProgressBar", False],
    "rich": ["RichProgressBar", True],
    "rich that stays": ["RichProgressBar", True],
    "tqdm": ["TQDMProgressBar", True],
    "asked for": ["RichProgressBar", True],
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the job printed on its standard output, where its lines and both bars go."""
    if not RICH.is_dir():
        require("rich is not installed. HINT: make .venv/.dev")
    script = tmp_path_factory.mktemp("job") / "train.py"
    script.write_text(SCRIPT)
    variables = ("LIGHTNING_SAGEMAKER_METRICS=1", "LIGHTNING_SAGEMAKER_PROGRESS=1e-9")  # a line after each batch
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("lightning-sagemaker")), "simulate"),
            *(part for variable in variables for part in ("--env", variable)),
            str(script),
        ],
        env={**os.environ, "PYTHONPATH": f"{RICH}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", BARS)
def test_progress_is_told_by_the_bar_or_by_lines_and_each_value_once(log: str, name: str) -> None:
    part = log.partition(f"begin {name}\n")[2].partition("begin ")[0]
    kind, draws = json.loads(re.findall(r"end (\[.*\])", part)[0])
    assert [kind, draws] == BARS[name]
    lines = [line[line.index(metrics.BEGIN) :] for line in part.splitlines() if metrics.BEGIN in line]
    assert not any(line.count(metrics.BEGIN) > 1 for line in lines)
    # The job page gets each value once, with a bar and without; no time is taken of the first batch, and no line made.
    found = {
        metric: [float(value[1]) for line in lines if (value := re.search(metrics.pattern(metric), line))]
        for metric in ("loss", "val")
    }
    assert found == {"loss": [1, 2, 3, 4, 5], "val": [0, 1]}
    progress = [line for line in lines if "left)" in line or "steps_per_second" in line or "validate: " in line]
    drawn = [line for line in part.splitlines() if re.search("━|it/s", line)]
    assert (bool(drawn), bool(progress)) == (draws, not draws)
    # A bar of rich is drawn when it ends, below the lines; of one that is redrawn a log keeps each state.
    if kind == "RichProgressBar" and draws:
        assert len(drawn) == (2 if name == "rich that stays" else 1)
        assert not any(metrics.BEGIN in line for line in drawn)
