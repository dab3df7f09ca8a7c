"""``lightning-sagemaker submit``: the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.findings import table
from lightning_sagemaker.jobs import aws
from lightning_sagemaker.jobs.description import console_link
from lightning_sagemaker.jobs.following import follow
from lightning_sagemaker.options import pairs
from lightning_sagemaker.submit import parser, source_checks
from lightning_sagemaker.submit.checks import examine
from lightning_sagemaker.submit.choices import complete
from lightning_sagemaker.submit.request import request, shown
from lightning_sagemaker.submit.sending import send

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand; its options are read by `lightning_sagemaker.submit.parser`, in the extra ``submit``."""
    added = subparsers.add_parser("submit", help="check a training job, and send it to SageMaker", add_help=False)
    added.set_defaults(run=run, reads_options_itself=True)


def run(given: argparse.Namespace) -> int:
    """Run the command; its ``options`` as they stand there, and ``rest``, the script's arguments."""
    options, job = parser.read(given.parser.prog, given.options, given.rest)
    session = aws.session(options.region, options.profile)
    whole = complete(job)
    if options.as_notebook is not None:
        from lightning_sagemaker.submit.notebook import notebook
        from lightning_sagemaker.submit.resolving import image_uri

        sys.stdout.write(notebook(whole, options.as_notebook, image_uri(whole, session.region_name or "us-east-1")))
        return 0
    resolved, findings = examine(whole, session)
    if options.simulate_first and not any(finding.level == "fail" for finding in findings):
        from lightning_sagemaker.submit.simulation import simulate

        local = {name: Path(path) for name, path in pairs(options.local_channel, "--local-channel NAME=PATH").items()}
        findings.append(simulate(whole, local))
    # JSON stays JSON: what a person reads goes beside it.
    beside = sys.stderr if options.json else sys.stdout
    if options.dry_run:
        sys.stdout.write(f"{shown(request(whole, resolved))}\n")
        beside.write(f"\n{source_checks.listing(whole)}\n")
    beside.write(table(findings, beside))
    refused = ("fail", "unknown") if options.strict else ("fail",)
    if any(finding.level in refused for finding in findings) and not options.force:
        what = "a check has failed" + " or could not be made" * options.strict
        sys.stderr.write(f"Not sent: {what}. HINT: fix it, or --force.\n")
        return 1
    if options.dry_run:
        return 0
    send(whole, resolved, session)
    sys.stdout.write(f"{resolved.name}\n{console_link(resolved.name, session.region_name)}\n")
    return follow(resolved.name, session) if options.wait else 0
