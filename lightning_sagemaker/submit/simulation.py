"""Runs one batch of the script on this machine before it is sent."""

from __future__ import annotations

import sys
import tempfile
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from lightning_sagemaker.findings import Finding, fail, ok, unknown
from lightning_sagemaker.options import one_line
from lightning_sagemaker.simulate import Simulation, SimulationError
from lightning_sagemaker.simulate.run import run
from lightning_sagemaker.submit.choices import has_smddp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lightning_sagemaker.submit.training_job import TrainingJob

_KILLED, _INTERRUPTED = 137, 130  # exit codes after SIGKILL and SIGINT, as a shell's


def simulate(job: TrainingJob, channels: Mapping[str, str | Path], timeout: float = 600.0) -> Finding:
    """Run a completed job's script for one batch as two hosts of one process, on this machine's CPU.

    Local files or folders stand for the job's channels; a script that takes longer than so many seconds hangs.
    """
    if absent := sorted(set(job.inputs) - set(channels)):
        what = f"the script was not run: channel {absent[0]} lies in S3 only."
        return unknown("simulation", what, f"HINT: --local-channel {absent[0]}=PATH, a few files of it.")
    hosts = min(job.launched.instance_count, 2)
    hint = "HINT: run `lightning-sagemaker simulate` on it"
    # The standard output may be the request alone, as JSON.
    with tempfile.TemporaryDirectory(prefix="sagemaker-") as folder, redirect_stdout(sys.stderr):
        try:
            simulation = Simulation(
                job.path,
                job.arguments,
                hosts=hosts,
                launcher=job.launcher,
                environment={"PL_TRAINER_FAST_DEV_RUN": "1", "PL_TRAINER_ACCELERATOR": "cpu", **job.variables},
                channels=channels,
                sharded=job.sharded,
                instance_type=job.launched.instance_type,
                smddp=has_smddp(str(job.torch)) if job.image is None else None,
                checkpoints=folder if job.checkpoint_uri is not None else None,  # empty, as that of a first start is
                interrupt_after=timeout,
                source_dir=job.folder,
            )
            ended = run(simulation)
        except (SimulationError, OSError) as error:  # the latter: no free port, a full disk
            return fail("simulation", str(error))
    if ended.exit_code == 0:
        return ok("simulation", f"one batch on {hosts} simulated host(s).")
    if ended.failure is not None:
        # All of the error stands above, where the script's output does; the last line is what was raised.
        what = one_line(" ".join([ended.failure.happened(), *ended.failure.error[-1:]]))
        return Finding("simulation", "fail", f"{hosts} simulated host(s): {what}", f"{hint}.")
    if ended.exit_code == _INTERRUPTED:
        raise KeyboardInterrupt
    if ended.exit_code != _KILLED:  # another signal to this process
        raise SystemExit(ended.exit_code)
    what = f"the script did not end one batch within {timeout:g} s."
    return fail("simulation", what, f"{hint}, to see where it hangs.")
