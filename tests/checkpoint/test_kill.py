"""SIGKILL while a checkpoint is written. LIGHTNING_SAGEMAKER_KILL_ROUNDS sets how often (100 for the proof)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROUNDS = int(os.environ.get("LIGHTNING_SAGEMAKER_KILL_ROUNDS", "5"))


def test_a_training_that_is_killed_while_it_writes_goes_on_from_the_newest_whole_checkpoint_to_the_same_end(
    tmp_path: Path,
) -> None:
    script = Path(__file__).with_name("kill_rounds.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(ROUNDS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60 + 20 * ROUNDS,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["killed"] == ROUNDS
    assert seen["killed_while_writing"] > 0
    assert seen["resumed_from_another"] == []
    assert (seen["exit_status"], seen["same_weights"], seen["temporary_files_left"]) == (0, True, 0), seen
