"""``lightning-sagemaker doctor``: the command line."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from lightning_sagemaker.options import write

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="report what this process sees of its SageMaker job, what Lightning does with it, and what is wrong",
        description="Report what this process sees of its SageMaker job, what Lightning does with it, and what "
        "is wrong. Prints Markdown for an issue; of credentials only the names. Exit code 1 where something "
        "will fail.",
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of Markdown")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Examine this process and print the report; 1 where something fails, otherwise 0."""
    from lightning_sagemaker.doctor.report import examine
    from lightning_sagemaker.doctor.situation import probe_machine
    from lightning_sagemaker.job import base_dir

    report = examine(os.environ, base_dir(os.environ), probe_machine(os.environ))
    text = json.dumps(report.as_json(), indent=2) + "\n" if arguments.json else report.as_markdown()
    write(text, sys.stdout)
    return report.exit_code
