"""Ranks that load checkpoints: the same ones, by what they hold."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("ranks that load checkpoints")  # what they saw is shared by all tests
PROGRAM = Path(__file__).with_name("ranks.py")
Seen = dict[str, list[object]]


@pytest.fixture(scope="session")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What the ranks of two starts of a job saw, by situation, rank 0 first."""
    folder = tmp_path_factory.mktemp("ranks")
    config = folder / "ml" / "input" / "config"
    config.mkdir(parents=True)
    (config / "resourceconfig.json").write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]}))
    for part in ("output", "checkpoints"):
        (folder / "ml" / part).mkdir()
    package = "lightning.pytorch" if importlib.util.find_spec("lightning") else "pytorch_lightning"
    environ = {"TRAINING_JOB_NAME": "digits", "SAGEMAKER_BASE_DIR": str(folder / "ml"), "OMP_NUM_THREADS": "1"}
    found: Seen = {}
    for more in ((), ("more",)):
        here = folder / f"container-{len(more)}"
        here.mkdir()
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(PROGRAM)]
        done = subprocess.run(
            [*command, package, str(folder / "ml" / "checkpoints"), *more],
            env=os.environ | environ | {"LIGHTNING_SAGEMAKER_RESUME": "1"},
            cwd=here,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        ranks = [json.loads((here / f"seen-{rank}.json").read_text()) for rank in (0, 1)]
        for name in ranks[0]:
            found[f"first {len(more)}" if name == "first" else name] = [saw[name] for saw in ranks]
    return found


def test_asked_to_resume_all_ranks_continue_from_what_rank_0_found(seen: Seen) -> None:
    assert seen["first 0"] == [2, 2]
    assert seen["first 1"] == [2, 2], "its training had ended"
    assert seen["undirected"] == [6, 6], "the second Trainer of this place begins from the beginning"


def test_copies_of_one_checkpoint_in_different_places_are_the_same(seen: Seen) -> None:
    assert seen["own_copies"] == [8, 8]


def test_different_ones_are_an_error_on_all_ranks_that_names_both_and_no_hang(seen: Seen) -> None:
    for text in seen["different"]:
        assert isinstance(text, str)
        assert text.startswith("The ranks would continue from different checkpoints: rank 0 would continue from ")
        assert "but algo-1, rank 1 from the beginning" in text


def test_an_environment_of_the_script_s_own_is_left_alone(seen: Seen) -> None:
    assert seen["foreign"] == [2, 2]
