"""``lightning-sagemaker simulate``: the command line of the simulation."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from lightning_sagemaker.launch_modes import MODES
from lightning_sagemaker.options import channels, variables
from lightning_sagemaker.simulate.run import run as simulate_job
from lightning_sagemaker.simulate.spec import DEFAULT_INSTANCE_TYPE, Simulation
from lightning_sagemaker.simulate.validation import DISTRIBUTIONS, INTERRUPTIONS

_EPILOG = """\
example:
  lightning-sagemaker simulate --hosts 2 --processes-per-host 2 --distribution torch_distributed train.py -- --epochs 2

SDK v2 knows the distributions none, torch_distributed, smdistributed, pytorchddp and mpi;
SDK v3 knows none, torch_distributed (Torchrun) and mpi (MPI).
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand.

    Args:
        subparsers: Where subcommands are added.
    """
    parser = subparsers.add_parser(
        "simulate",
        usage="%(prog)s [options] script.py [-- arguments of the script]",
        help="run a training script on this machine as a SageMaker job would",
        description="Run a training script on this machine as N hosts x M processes, with the environment, the files "
        "and the launcher that a SageMaker training job would have.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("script", type=Path, help="training script")
    parser.add_argument(
        "--source-dir",
        type=Path,
        metavar="PATH",
        help="source folder, of which each host gets a copy (default: the script's folder)",
    )
    parser.add_argument("--hosts", "--instance-count", type=int, default=1, help="number of hosts (default: 1)")
    parser.add_argument("--processes-per-host", type=int, default=1, help="processes on each host (default: 1)")
    launcher = parser.add_mutually_exclusive_group()
    launcher.add_argument("--launcher", choices=MODES, help="what starts the processes (default: none)")
    launcher.add_argument(
        "--distribution",
        default="none",
        metavar="NAME",
        help=f"the same in the words of SDK v2: {', '.join(DISTRIBUTIONS['v2'])}",
    )
    parser.add_argument("--sdk", default="v2", metavar="v2|v3", help="SageMaker Python SDK (default: v2)")
    parser.add_argument(
        "--leader", type=int, metavar="N", help="v2 with a distribution: host that leads (default: last)"
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="variable of the job, its value from here for NAME alone; repeatable",
    )
    parser.add_argument(
        "--channel",
        action="append",
        default=[],
        metavar="NAME=PATH[:sharded]",
        help="input channel, ':sharded' for ShardedByS3Key, where each host gets a part of the files; repeatable",
    )
    _add_interruption(parser)
    parser.add_argument("--instance-type", default=DEFAULT_INSTANCE_TYPE, help="(default: %(default)s)")
    parser.add_argument(
        "--smddp",
        action=argparse.BooleanOptionalAction,
        help="whether the image has SMDDP: a fake with its limits (default: with smdistributed and pytorchddp)",
    )
    parser.add_argument(
        "--mpi-option",
        action="append",
        dest="mpi_options",
        default=[],
        metavar="OPTION",
        help="further option of mpirun; repeatable",
    )
    parser.add_argument("--work-dir", type=Path, help="empty folder for the hosts' files (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder with the hosts' files")
    parser.add_argument(
        "--shared-disk", action="store_true", help="let hosts see each other's files, which those of a job do not"
    )
    parser.add_argument("--verbose", action="store_true", help="show every line of errors of a job that fails")
    parser.add_argument(
        "--grace", type=float, default=5.0, metavar="SECONDS", help="between SIGTERM and SIGKILL (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def _add_interruption(parser: argparse.ArgumentParser) -> None:
    spot = parser.add_argument_group("a spot job", "its checkpoints, its interruption and its second start")
    spot.add_argument(
        "--checkpoints", type=Path, metavar="PATH", help="folder that stands for the job's place for checkpoints in S3"
    )
    spot.add_argument(
        "--interrupt-after", type=float, metavar="SECONDS", help="take the hosts away after so many seconds"
    )
    spot.add_argument(
        "--interrupt-by",
        choices=INTERRUPTIONS,
        default="kill",
        help="what the script gets of it: kill, nothing, as in AWS's own images; sigterm, two minutes (default: kill)",
    )
    spot.add_argument(
        "--restart", action="store_true", help="then start again on new hosts, with the checkpoints and nothing else"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Args:
        arguments: Parsed arguments of `add_parser`.

    Returns:
        The job's exit code, or 2 where the arguments were wrong.
    """
    given = vars(arguments)
    paths, sharded = channels(arguments.channel, "--channel NAME=PATH")
    job = Simulation(
        **{name: given[name] for name in (one.name for one in fields(Simulation)) if name in given},
        arguments=arguments.rest,
        environment=variables(arguments.env, "--env NAME=VALUE"),
        channels=paths,
        sharded=sharded,
    )
    return simulate_job(job).exit_code
