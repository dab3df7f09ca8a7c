"""One folder of several containers, jobs and users. LIGHTNING_SAGEMAKER_SHARED_SECONDS: how long, 60 for the proof."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("LIGHTNING_SAGEMAKER_SHARED_SECONDS", "5"))


def test_two_containers_two_jobs_and_two_users_lose_nothing_in_one_folder(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("root makes containers and changes users")
    folder = tmp_path / "shared"
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("shared_folder.py")), str(folder), str(SECONDS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200 + 2 * SECONDS,
    )
    if "unshare: Operation not permitted" in done.stderr:
        pytest.skip("this container may make no containers")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["codes"] == [0, 0], done.stderr
    for writer in ("a-0", "a-1234", "b-0", "b-1234"):
        assert seen[writer]["lost"] == [], writer
        assert seen[writer]["written"] > 0
    assert seen["a"]["left_by_killed"] + seen["b"]["left_by_killed"] > 0, seen
    # What the killed left is gone, and what is of strangers is there.
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".part") == [
        ".a.b.1.c.part",
        ".model.download.123.456.part",
        "download.part",
    ]
