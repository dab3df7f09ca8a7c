"""``lightning-sagemaker submit``: the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.findings import table
from lightning_sagemaker.options import channels, pairs
from lightning_sagemaker.submit import sdk
from lightning_sagemaker.submit.checks import check
from lightning_sagemaker.submit.choices import describe
from lightning_sagemaker.submit.description import LAUNCHERS

if TYPE_CHECKING:
    from collections.abc import Callable

_EPILOG = """\
what follows -- are the script's own arguments:
    lightning-sagemaker submit train.py --instance-type ml.p4d.24xlarge --instance-count 4 --strategy smddp \\
        --role MyRole --dry-run -- --epochs 30
exit code: 0 for a job that was sent (with --wait: completed), 1 where a check or the job failed, 2 for bad input
"""


def add_job_options(add: Callable[..., object]) -> None:
    """Add options that say the same of any job.

    Args:
        add: ``add_argument`` of a parser or a group.
    """
    add("--role", help="execution role: ARN or name (default: the SDK's)")
    add("--torch", dest="torch_version", metavar="VERSION", help="of AWS's PyTorch training image")
    add("--image", metavar="URI", help="another image")
    add(
        "--requirement", dest="requirements", action="append", default=[], metavar="LINE", help="or a wheel; repeatable"
    )
    add("--region", help="AWS region (default: that of your AWS configuration)")
    add("--output-uri", dest="output_s3_uri", metavar="S3URI", help="where the job's source and what it makes go")
    add("--subnet", dest="subnets", action="append", default=[], metavar="ID", help="repeatable")
    add("--security-group", dest="security_group_ids", action="append", default=[], metavar="ID", help="repeatable")
    add("--dry-run", action="store_true", help="describe and check, and send nothing")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand.

    Args:
        subparsers: Where subcommands are added.
    """
    parser = subparsers.add_parser(
        "submit",
        help="check a training job, and send it to SageMaker",
        description="Describe a training job completely, check it before money is spent, and send it to SageMaker with "
        "the SDK that is installed, v3 or v2.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("script", type=Path, help="training script")
    add("--instance-type", required=True, metavar="TYPE", help="for example ml.p4d.24xlarge")
    add("--instance-count", type=int, default=1, metavar="N", help="hosts (default: %(default)s)")
    add("--strategy", help="Lightning's strategy, where the script sets none")
    add("--sdk", choices=("v2", "v3"), help="SageMaker Python SDK (default: the one that is installed)")
    add("--launcher", choices=LAUNCHERS, help="(default: what the strategy needs)")
    add("--processes-per-host", type=int, metavar="N", help="(default: one for each GPU)")
    add("--source-dir", type=Path, metavar="PATH", help="folder to send (default: the script's)")
    add("--name", help="beginning of the job's name (default: the script's)")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="variable of the job; repeatable")
    add(
        "--channel",
        action="append",
        default=[],
        metavar="NAME=S3URI[:sharded]",
        help="input channel, ':sharded' for ShardedByS3Key, where each host gets a part of the files; repeatable",
    )
    add("--checkpoint-uri", dest="checkpoint_s3_uri", metavar="S3URI", help="where /opt/ml/checkpoints is kept")
    add("--spot", action="store_true", help="managed spot instances, resuming from the newest checkpoint")
    add("--max-run", type=int, default=86_400, metavar="SECONDS", help="(default: %(default)s)")
    add("--max-wait", type=int, metavar="SECONDS", help="with --spot, training included (default: twice --max-run)")
    add("--retries", type=int, metavar="N", help="restarts after faults of the service (default with --spot: 3)")
    add("--volume-gb", type=int, default=100, metavar="GB", help="(default: %(default)s)")
    add("--metric", dest="metrics", action="append", default=[], metavar="NAME", help="for the job page; repeatable")
    add("--simulate-first", action="store_true", help="run the script for one batch on this machine first")
    add_job_options(add)
    add("--json", action="store_true", help="with --dry-run: the description as JSON")
    add("--strict", action="store_true", help="what could not be checked counts as failed")
    add("--force", action="store_true", help="send it although a check has failed")
    add("--wait", action="store_true", help="follow the job's log until it ends")
    parser.set_defaults(run=run)


_DESCRIBED = (
    *("instance_type", "instance_count", "strategy", "name", "source_dir", "requirements", "image", "torch_version"),
    *("launcher", "processes_per_host", "volume_gb", "role", "checkpoint_s3_uri", "output_s3_uri", "subnets"),
    *("security_group_ids", "spot", "max_run", "max_wait", "retries", "metrics"),
)


def run(given: argparse.Namespace) -> int:
    """Do what the arguments say.

    Args:
        given: Parsed arguments of `add_parser`.

    Returns:
        The exit code.
    """
    uris, sharded = channels(given.channel, "--channel NAME=S3URI")
    job = describe(
        given.script,
        arguments=given.rest,
        sdk=given.sdk or sdk.installed() or "v3",
        environment=pairs(given.env, "--env NAME=VALUE"),
        channels=uris,
        sharded=sharded,
        **{name: getattr(given, name) for name in _DESCRIBED},
    )
    if given.json and given.dry_run:
        sys.stdout.write(job.to_json() + "\n")
    else:
        sys.stdout.write(f"{job}\n\n")
    session = sdk.session(given.region)
    findings = check(job, session, simulate_first=given.simulate_first)
    # JSON stays JSON: what a person reads goes beside it.
    (sys.stderr if given.json and given.dry_run else sys.stdout).write(table(findings))
    refused = ("fail", "unknown") if given.strict else ("fail",)
    if any(finding.level in refused for finding in findings) and not given.force:
        sys.stderr.write(
            f"Not sent: a check has failed{' or could not be made' * given.strict}. HINT: mend it, or --force.\n"
        )
        return 1
    if given.dry_run:
        return 0
    name = sdk.start(job, session)
    from lightning_sagemaker.jobs.description import console_link
    from lightning_sagemaker.jobs.following import follow

    sys.stdout.write(f"{name}\n{console_link(name, session.region_name)}\n")
    return follow(name, session) if given.wait else 0
