from __future__ import annotations

import subprocess

import pytest

from .aws import BUCKET, ROLE, ROOT, SDKS, Aws, sdk_python

pytestmark = pytest.mark.xdist_group("aws")


@pytest.mark.parametrize("sdk", SDKS)
def test_the_notebook_sends_its_job_whichever_sdk_is_installed(aws: Aws, sdk: str) -> None:
    before = len(aws.requests())
    done = subprocess.run(
        [sdk_python(sdk), ROOT / "examples" / "submit" / "notebook.py"],
        env=aws.environ | {"TRAINING_ROLE": ROLE, "TRAINING_BUCKET": BUCKET, "FOLLOW": "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = aws.requests()[before:]
    assert done.stdout.splitlines()[-1] == made["TrainingJobName"]
    assert made["ResourceConfig"]["InstanceCount"] == 2
    assert made["Environment"]["PL_TRAINER_STRATEGY"] == "ddp"
