"""``lightning-sagemaker simulate``: the command line of the simulation."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from lightning_sagemaker.launch_modes import MODES
from lightning_sagemaker.options import channels, variables
from lightning_sagemaker.simulate.run import run as simulate_job
from lightning_sagemaker.simulate.spec import DISTRIBUTIONS, INTERRUPTIONS, Simulation

_EPILOG = """\
example:
  lightning-sagemaker simulate --hosts 2 --processes-per-host 2 --distribution torch_distributed train.py -- --epochs 2

SDK v2 knows the distributions none, torch_distributed, smdistributed, pytorchddp and mpi;
SDK v3 knows none, torch_distributed (Torchrun) and mpi (MPI).
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "simulate",
        usage="%(prog)s [options] script.py [-- arguments of the script]",
        help="run a training script on this machine as a SageMaker job would",
        description="Run a training script on this machine as N hosts x M processes, with the environment, the files "
        "and the launcher that a SageMaker training job would have.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # the defaults are the description's
    )
    add = parser.add_argument
    add("script", type=Path, help="training script")
    source = "source folder, of which each host gets a copy (default: the script's folder)"
    add("--source-dir", type=Path, metavar="PATH", help=source)
    add("--hosts", "--instance-count", type=int, help="number of hosts (default: 1)")
    add("--processes-per-host", type=int, help="processes on each host (default: 1)")
    launcher = parser.add_mutually_exclusive_group()
    launcher.add_argument("--launcher", choices=MODES, help="what starts the processes (default: none)")
    names = f"the same in the words of SDK v2: {', '.join(DISTRIBUTIONS['v2'])}"
    launcher.add_argument("--distribution", metavar="NAME", help=names)
    add("--sdk", metavar="v2|v3", help="SageMaker Python SDK (default: v2)")
    add("--leader", type=int, metavar="N", help="v2 with a distribution: host that leads (default: last)")
    variable = "variable of the job, its value from here for NAME alone; repeatable"
    add("--env", action="append", default=[], metavar="NAME=VALUE", help=variable)
    channel = "input channel, ':sharded' for ShardedByS3Key, where each host gets a part of the files; repeatable"
    add("--channel", action="append", default=[], metavar="NAME=PATH[:sharded]", help=channel)
    add("--instance-type", help=f"(default: {Simulation.instance_type})")
    smddp = "whether the image has SMDDP: a fake with its limits (default: with smdistributed and pytorchddp)"
    add("--smddp", action=argparse.BooleanOptionalAction, default=None, help=smddp)
    option = "further option of mpirun; repeatable"
    add("--mpi-option", action="append", dest="mpi_options", metavar="OPTION", help=option)
    add("--work-dir", type=Path, help="empty folder for the hosts' files (default: a temporary one)")
    add("--keep", action="store_true", help="keep the temporary folder with the hosts' files")
    add("--shared-disk", action="store_true", help="let hosts see each other's files, which those of a job do not")
    add("--verbose", action="store_true", help="show every line of errors of a job that fails")
    grace = f"between SIGTERM and SIGKILL (default: {Simulation.grace})"
    add("--grace", type=float, metavar="SECONDS", help=grace)
    add = parser.add_argument_group("a spot job", "its checkpoints, its interruption and its second start").add_argument
    place = "folder that stands for the job's place for checkpoints in S3"
    add("--checkpoints", type=Path, metavar="PATH", help=place)
    add("--interrupt-after", type=float, metavar="SECONDS", help="take the hosts away after so many seconds")
    way = "what the script gets of it: kill, nothing, as in AWS's own images; sigterm, two minutes (default: kill)"
    add("--interrupt-by", choices=INTERRUPTIONS, help=way)
    again = "then start again on new hosts, with the checkpoints and nothing else"
    add("--restart", action="store_true", help=again)
    parser.set_defaults(run=run, takes_script=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return the job's exit code."""
    given = vars(arguments)
    paths, sharded = channels(arguments.channel, "--channel NAME=PATH")
    job = Simulation(
        **{one.name: given[one.name] for one in fields(Simulation) if one.name in given},
        arguments=arguments.rest,
        environment=variables(arguments.env, "--env NAME=VALUE"),
        channels=paths,
        sharded=sharded,
    )
    return simulate_job(job).exit_code
