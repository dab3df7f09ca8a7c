"""``lightning-sagemaker submit``: the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from lightning_sagemaker.submit.training_job import TrainingJob

if TYPE_CHECKING:
    import argparse

    from jsonargparse import ArgumentParser, Namespace

_DESCRIPTION = "Describe a training job, check it before money is spent, and send it to SageMaker as one request."
_EPILOG = """\
What follows -- are the script's own arguments, of any form:
lightning-sagemaker submit train.py --instance-type ml.p4d.24xlarge --instance-count 4 --role MyRole --dry-run --
--epochs 30. Exit code: 0 for a job that was sent (with --wait: completed), 1 where a check or the job failed, 2 for bad
input.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand; its options are read by `lightning_sagemaker.submit.parser`, in the extra ``submit``.

    Args:
        subparsers: Where subcommands are added.
    """
    added = subparsers.add_parser("submit", help="check a training job, and send it to SageMaker", add_help=False)
    added.set_defaults(run=run, reads_options_itself=True)


def run(given: argparse.Namespace) -> int:
    """Run the command.

    Args:
        given: ``options``, as they stand on the command line, and ``rest``, the script's arguments.

    Returns:
        The exit code.
    """
    options, job = read(given.parser.prog, given.options, given.rest)
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


def read(prog: str, options: list[str], arguments: list[str]) -> tuple[Namespace, TrainingJob]:
    """Read a command line.

    Args:
        prog: Name of the command.
        options: Its options.
        arguments: The script's arguments.

    Returns:
        What to do, and the job.

    Raises:
        ImportError: The extra ``submit`` is not installed.
        ValueError: An option is malformed.
    """
    made = parser.make(prog, _DESCRIPTION, _EPILOG)
    _add_actions(made)
    from jsonargparse import ArgumentError

    added, rest = parser.repeatable(options)
    try:
        found = made.parse_args(rest)
    except ArgumentError as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{text}. HINT: `{prog} --help` lists the options.") from None
    for name, more in added.items():
        found[name] = {**found[name], **more} if isinstance(more, dict) else (*found[name], *more)
    if found.print_config:
        found.print_config = False
        sys.stdout.write(made.dump(found, skip_default=True))
        sys.exit(0)
    values = made.instantiate(found).as_dict()
    fields: dict[str, Any] = {name: values[name] for names in parser.GROUPS.values() for name in names}
    return found, TrainingJob(values["script"], arguments=tuple(arguments), **fields)


def _add_actions(made: ArgumentParser) -> None:
    add = made.add_argument_group("what to do").add_argument
    add("--print_config", action="store_true", help="show the options as a file for --config, and end")
    add("--region", type=str | None, default=None, help="AWS region; by default that of your AWS configuration")
    add("--profile", type=str | None, default=None, help="profile of your AWS configuration")
    add("--dry-run", action="store_true", help="show the request, check it, and send nothing")
    add("--as-notebook", choices=("v2", "v3"), default=None, help="show the job as code for SageMaker's SDK instead")
    add("--json", action="store_true", help="with --dry-run: only the request on the standard output")
    add("--simulate-first", action="store_true", help="run the script for one batch on this machine first")
    add("--local-channel", action="append", default=[], type=str, help="NAME=PATH for --simulate-first; repeatable")
    add("--strict", action="store_true", help="what could not be checked counts as failed")
    add("--force", action="store_true", help="send it although a check has failed")
    add("--wait", action="store_true", help="follow the job's log until it ends")
