"""``lightning-sagemaker submit``: the command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lightning_sagemaker.findings import table
from lightning_sagemaker.jobs import aws
from lightning_sagemaker.jobs.description import console_link
from lightning_sagemaker.jobs.following import follow
from lightning_sagemaker.options import pairs, write
from lightning_sagemaker.submit import parser, source_checks
from lightning_sagemaker.submit.choices import complete
from lightning_sagemaker.submit.request import shown
from lightning_sagemaker.submit.sending import prepare, send

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
    if options.as_notebook is not None:
        from lightning_sagemaker.submit.notebook import notebook
        from lightning_sagemaker.submit.resolving import image_uri

        whole = complete(job)
        image = image_uri(whole, session.region_name or "us-east-1")
        write(notebook(whole, options.as_notebook, image), sys.stdout)
        return 0
    prepared = prepare(job, session)
    findings = prepared.findings
    if options.simulate_first and not any(finding.level == "fail" for finding in findings):
        from lightning_sagemaker.submit.simulation import simulate

        findings.append(simulate(prepared.job, pairs(options.local_channel, "--local-channel NAME=PATH")))
    # JSON stays JSON: what a person reads goes beside it.
    beside = sys.stderr if options.json else sys.stdout
    if options.dry_run:
        write(f"{shown(prepared.request)}\n", sys.stdout)
        write(f"\n{source_checks.listing(prepared.job, prepared.source)}\n", beside)
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
