"""A spot restart, rehearsed: whenever the hosts are taken away, the training ends with the undisturbed weights."""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ..aside import ASIDE  # noqa: TID252 - importmode=importlib
from .helpers import REPOSITORY, environment, run_cli

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL = os.environ.get("LIGHTNING_SAGEMAKER_FULL") == "1"  # each night
ROUNDS = int(os.environ.get("LIGHTNING_SAGEMAKER_KILL_ROUNDS", "20" if _FULL else "2"))
SCRIPT = Path(__file__).with_name("rehearsal.py")
# Seconds until the kill where the machine is idle: as long as it takes the ranks to begin, twice.
AFTER = 15.0


def train(folder: Path, way: str, *options: str, killed_at: float = 0.0, share: float = 1.0) -> tuple[Any, str]:
    """The weights that a training ends with, and what it printed."""
    source = folder / "source"
    source.mkdir(parents=True)
    shutil.copy(REPOSITORY / "examples/digits/train.py", source / "digits.py")
    shutil.copy(SCRIPT, source / "train.py")
    shape = ["--hosts", "2", "--env", "OMP_NUM_THREADS=1", *options]
    done = run_cli(
        *(*shape, str(source / "train.py"), "--", way, str(folder / "weights"), str(killed_at), str(share)),
        env=environment(PYTHONPATH=f"{REPOSITORY}{os.pathsep}{ASIDE}"),
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return torch.load(folder / "weights", weights_only=True), done.stdout + done.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, float]:
    """The weights of a training that nobody interrupts, and the seconds that it took."""
    begin = time.monotonic()
    return train(tmp_path_factory.mktemp("undisturbed"), "plain")[0], time.monotonic() - begin


@pytest.fixture(scope="module")
def resumed() -> Iterator[list[bool]]:
    """Whether each restart found a checkpoint: of two kills both may come before the first one, of 20 few do."""
    rounds: list[bool] = []
    yield rounds
    assert sum(rounds) > len(rounds) / 2 or not _FULL


@pytest.mark.xdist_group("rehearsal")
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_job_killed_at_any_moment_goes_on_and_ends_with_the_undisturbed_weights(
    number: int, undisturbed: tuple[Any, float], resumed: list[bool], tmp_path: Path
) -> None:
    way, share = ("resume", "search")[number % 2], random.uniform(0.1, 0.95)  # noqa: S311 - a moment, no secret
    # On a busy machine a kill after a fixed time would come before the training, and rehearse nothing.
    after = max(AFTER, 2 * undisturbed[1])
    # torchrun's agents would double the processes of the other launcher, so they come each night only.
    launcher = ("mpirun", "torchrun")[number // 2 % 2]
    options = ["--launcher", launcher, "--interrupt-after", f"{after}", "--restart"]
    options += ["--work-dir", str(tmp_path / "job")]
    if way == "resume":
        options += ["--env", "LIGHTNING_SAGEMAKER_RESUME=1"]
    weights, printed = train(tmp_path, way, *options, killed_at=time.time() + after, share=share)
    assert re.findall(r"leader (\S+),", printed) == ["algo-2", "algo-1"]
    kept = int(re.findall(r"place for checkpoints, .*, holds (\d+) files", printed)[0])
    steps = int(re.findall(r"steps in this start: (\d+)", printed)[0])
    print(f"killed at {share:.0%} of the training, with {kept} checkpoints; then {steps} steps")
    assert (steps < 96) == (kept > 0)
    resumed.append(kept > 0)
    torch.testing.assert_close(weights, undisturbed[0], rtol=0, atol=0)
