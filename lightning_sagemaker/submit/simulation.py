"""Runs one batch of the script on this machine before it is sent."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from lightning_sagemaker.findings import Finding
from lightning_sagemaker.submit.images import has_smddp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lightning_sagemaker.submit.training_job import TrainingJob

_OUTPUT = 1500  # characters of a failed simulation that are shown


def simulate(job: TrainingJob, channels: Mapping[str, Path], timeout: float = 600.0) -> Finding:
    """Run the script for one batch as two hosts of one process, on this machine's CPU.

    Args:
        job: The job; what it leaves out has been chosen.
        channels: Local files or folders that stand for the job's channels.
        timeout: Seconds after which it counts as hanging.
    """
    if absent := sorted(set(job.inputs) - set(channels)):
        what = f"the script was not run: channel {absent[0]} lies in S3 only."
        return Finding("simulation", "unknown", what, f"HINT: --local-channel {absent[0]}=PATH, a few files of it.")
    hosts = min(job.launched.instance_count, 2)
    variables = {"PL_TRAINER_FAST_DEV_RUN": "1", "PL_TRAINER_ACCELERATOR": "cpu", **job.variables}
    with tempfile.TemporaryDirectory(prefix="sagemaker-") as folder:
        command = [
            *(sys.executable, "-m", "lightning_sagemaker.cli", "simulate", "--hosts", str(hosts)),
            *("--launcher", str(job.launcher), "--instance-type", job.launched.instance_type),
            *("--source-dir", str(job.folder)),
            *(part for name in variables for part in ("--env", name)),  # their values are nobody else's business
            *(part for name, path in channels.items() for part in ("--channel", _channel(job, name, path))),
            # Empty, as the place of a first start is.
            *(("--checkpoints", folder) if job.checkpoint_uri is not None else ()),
            *(("--smddp" if has_smddp(str(job.torch)) else "--no-smddp",) if job.image is None else ()),
            *(str(job.path), "--", *job.arguments),
        ]
        with subprocess.Popen(  # noqa: S603 - the command is ours
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **variables},
        ) as process:
            try:
                printed = process.communicate(timeout=timeout)[0]
            except subprocess.TimeoutExpired:
                process.terminate()  # which ends the simulated hosts too; a kill would leave them behind
                process.communicate()
                return Finding(
                    "simulation",
                    "fail",
                    f"the script did not end one batch within {timeout:g} s.",
                    "HINT: run `lightning-sagemaker simulate` on it, to see where it hangs.",
                )
    if process.returncode != 0:
        return Finding(
            "simulation",
            "fail",
            f"the script failed on {hosts} simulated host(s), exit code {process.returncode}:\n{printed[-_OUTPUT:]}",
            "HINT: run `lightning-sagemaker simulate` on it.",
        )
    return Finding("simulation", "ok", f"one batch on {hosts} simulated host(s).")


def _channel(job: TrainingJob, name: str, path: Path) -> str:
    return f"{name}={path}:sharded" if name in job.sharded else f"{name}={path}"
