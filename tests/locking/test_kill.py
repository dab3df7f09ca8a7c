"""Holders that are killed at random moments; ``LIGHTNING_SAGEMAKER_KILL_ROUNDS=1000`` is the full count."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = int(os.environ.get("LIGHTNING_SAGEMAKER_KILL_ROUNDS", "25"))


@pytest.mark.timeout(300 + 3 * ROUNDS)
def test_never_two_at_work_nor_two_outcomes_nor_a_hang_when_holders_are_killed(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    program = Path(__file__).with_name("kill_rounds.py")
    done = subprocess.run(
        [sys.executable, str(program), str(ROUNDS), str(seed), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    seen = json.loads(done.stdout)
    assert seen["problems"] == [], seen
    assert seen["at_work"] > 0, "nobody was killed at work: the test has shown nothing"
