"""``lightning-sagemaker submit``: the command line."""

from __future__ import annotations

import sys
import tempfile
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from lightning_sagemaker.findings import Finding, fail, ok, table, unknown
from lightning_sagemaker.jobs import aws
from lightning_sagemaker.jobs.description import console_link
from lightning_sagemaker.jobs.following import follow
from lightning_sagemaker.options import INTERRUPTED, one_line, pairs, write
from lightning_sagemaker.simulate import Simulation, SimulationError
from lightning_sagemaker.simulate.run import run as run_simulation
from lightning_sagemaker.submit import parser
from lightning_sagemaker.submit.choices import complete, has_smddp
from lightning_sagemaker.submit.request import shown
from lightning_sagemaker.submit.sending import prepare, send
from lightning_sagemaker.submit.source import listing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

    from lightning_sagemaker.submit.training_job import TrainingJob

_KILLED = 137  # exit code after SIGKILL, as a shell's


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand; its options are read by `lightning_sagemaker.submit.parser`, in the extra ``submit``."""
    added = subparsers.add_parser("submit", help="check a training job, and send it to SageMaker", add_help=False)
    added.set_defaults(run=run, takes_script=True, reads_options_itself=True)


def run(given: argparse.Namespace) -> int:
    """Run the command; its ``options`` as they stand there, and ``rest``, the script's arguments."""
    options, job = parser.read(given.parser.prog, given.options, given.rest)
    session = aws.session(options.region, options.profile)
    if options.as_notebook is not None:
        from lightning_sagemaker.submit.aws_checks import image_uri
        from lightning_sagemaker.submit.notebook import notebook

        whole = complete(job)
        image = image_uri(whole, session.region_name or "us-east-1")
        code = notebook(whole, options.as_notebook, image, region=options.region, profile=options.profile)
        write(code, sys.stdout)
        return 0
    prepared = prepare(job, session)
    findings = prepared.findings
    if options.simulate_first and not any(finding.level == "fail" for finding in findings):
        findings.append(simulate(prepared.job, pairs(options.local_channel, "--local-channel NAME=PATH")))
    # JSON stays JSON: what a person reads goes beside it.
    beside = sys.stderr if options.json else sys.stdout
    if options.dry_run:
        write(f"{shown(prepared.request)}\n", sys.stdout)
        write(f"\n{listing(prepared.job, prepared.source)}\n", beside)
    write(table(findings, beside), beside)
    refused = ("fail", "unknown") if options.strict else ("fail",)
    if any(finding.level in refused for finding in findings) and not options.force:
        what = "a check has failed" + " or could not be made" * options.strict
        sys.stderr.write(f"Not sent: {what}. HINT: fix it, or --force.\n")
        return 1
    if options.dry_run:
        return 0
    name = send(prepared, session)
    write(f"{name}\n{console_link(name, session.region_name)}\n", sys.stdout)
    return follow(name, session) if options.wait else 0


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
            ended = run_simulation(simulation)
        except (SimulationError, OSError) as error:  # the latter: no free port, a full disk
            return fail("simulation", str(error))
    if ended.exit_code == 0:
        return ok("simulation", f"one batch on {hosts} simulated host(s).")
    if ended.failure is not None:
        # All of the error stands above, where the script's output does; the last line is what was raised.
        what = one_line(" ".join([ended.failure.happened(), *ended.failure.error[-1:]]))
        return Finding("simulation", "fail", f"{hosts} simulated host(s): {what}", f"{hint}.")
    if ended.exit_code == INTERRUPTED:
        raise KeyboardInterrupt
    if ended.exit_code != _KILLED:  # another signal to this process
        raise SystemExit(ended.exit_code)
    what = f"the script did not end one batch within {timeout:g} s."
    return fail("simulation", what, f"{hint}, to see where it hangs.")
