"""``lightning-sagemaker probe``: the command line."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from lightning_sagemaker.findings import table
from lightning_sagemaker.options import BAD_INPUT, write
from lightning_sagemaker.redaction import redact
from lightning_sagemaker.simulate.spec import DISTRIBUTIONS, Simulation
from lightning_sagemaker.smddp.probe import INSTANCE_TYPES
from lightning_sagemaker.submit import sdk
from lightning_sagemaker.submit.checks import check
from lightning_sagemaker.submit.choices import describe
from lightning_sagemaker.submit.command import add_job_options
from lightning_sagemaker.submit.description import LAUNCHERS, SMDDP_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lightning_sagemaker.submit.description import JobDescription

SCRIPT = Path(__file__).with_name("script") / "probe.py"
NAME = "lightning-sagemaker-probe"
_MAX_RUN = 1800  # seconds; it takes a few minutes unless much of it hangs
_VOLUME_GB = 5  # nothing is written to it

_EPILOG = """\
examples:
    lightning-sagemaker probe --instance-type ml.p4d.24xlarge --sdk v2 --role MyRole   # costs money: see docs/probe.md
    lightning-sagemaker probe --simulate --hosts 2 --distribution smdistributed  # free, and no proof of AWS
    lightning-sagemaker probe --from-log saved.log
exit code: 0 where no assumption fails, 1 where one does, a check has failed or the job has, 2 for bad input
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand.

    Args:
        subparsers: Where subcommands are added.
    """
    parser = subparsers.add_parser(
        "probe",
        help="ask real instances whether they are as this package assumes: one short job, a report",
        description="Send one short job that looks at everything that this package assumes of SageMaker and SMDDP "
        "without having seen it, and report on each assumption whether it holds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--simulate", action="store_true", help="run the same script on this machine instead")
    instead.add_argument("--from-log", type=Path, metavar="FILE", help="only report on the log of such a job")
    add = parser.add_argument
    add("--output", type=Path, default=Path(f"{NAME}.json"), metavar="FILE", help="the report (default: %(default)s)")
    add("--sdk", choices=("v2", "v3"), help="SageMaker Python SDK (default: the one that is installed)")
    job = parser.add_argument_group("the job").add_argument
    job("--instance-type", metavar="TYPE", help="for example ml.p4d.24xlarge")
    job("--instance-count", type=int, default=2, metavar="N", help="hosts (default: %(default)s)")
    job("--launcher", choices=LAUNCHERS, help="(default: smddprun where there is SMDDP, otherwise torchrun)")
    add_job_options(job)
    here = parser.add_argument_group("with --simulate").add_argument
    here("--hosts", type=int, default=2, metavar="N", help="(default: %(default)s)")
    here("--processes-per-host", type=int, default=2, metavar="N", help="(default: %(default)s)")
    here(
        "--distribution",
        default="none",
        metavar="NAME",
        help=f"one of {', '.join(DISTRIBUTIONS['v2'])} (default: none)",
    )
    here("--limit", type=float, metavar="SECONDS", help="for one operation of a process group (default: 60)")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Do what the arguments say.

    Args:
        given: Parsed arguments of `add_parser`.

    Returns:
        The exit code.
    """
    if given.from_log is not None:
        with given.from_log.open(encoding="utf-8", errors="replace") as log:
            return _report(log, given.output, nothing_heard=BAD_INPUT)
    return _simulate(given) if given.simulate else _send(given)


def _simulate(given: argparse.Namespace) -> int:
    from lightning_sagemaker.probe.observe import LIMIT, SIMULATED
    from lightning_sagemaker.simulate.run import simulate

    environment = {SIMULATED: "1", **({} if given.limit is None else {LIMIT: str(given.limit)})}
    line, world_size = given.sdk or "v2", given.hosts * given.processes_per_host
    # As `submit` does: SDK v3's own number is that of one host.
    everywhere = ("-np", str(world_size)) if (line, given.distribution) == ("v3", "mpi") else ()
    job = Simulation(
        script=SCRIPT,
        hosts=given.hosts,
        processes_per_host=given.processes_per_host,
        distribution=given.distribution,
        sdk=line,
        mpi_options=everywhere,
        environment=environment,
    )
    log = _Log(sys.stdout)
    ended = simulate(job, out=log)
    return max(_report(log.lines, given.output), int(ended.exit_code != 0))


def _describe(given: argparse.Namespace) -> JobDescription:
    if given.instance_type is None:
        raise ValueError("--instance-type is missing. HINT: for example ml.p4d.24xlarge; or --simulate, --from-log.")
    line = given.sdk or sdk.installed() or "v3"
    launcher, torch_version = given.launcher, given.torch_version
    if given.instance_type in INSTANCE_TYPES and launcher in (None, "smddprun") and line == "v2":
        # Most of what is unknown is about SMDDP, and only the toolkit starts it.
        launcher, torch_version = "smddprun", torch_version or SMDDP_VERSION
    return describe(
        SCRIPT,
        name=NAME,
        sdk=line,
        launcher=launcher,
        torch_version=torch_version,
        max_run=_MAX_RUN,
        volume_gb=_VOLUME_GB,
        **{
            name: getattr(given, name)
            for name in (
                *("instance_type", "instance_count", "role", "image", "requirements"),
                *("output_s3_uri", "subnets", "security_group_ids"),
            )
        },
    )


def _send(given: argparse.Namespace) -> int:
    job = _describe(given)
    sys.stdout.write(f"{job}\n\n")
    session = sdk.session(given.region)
    findings = check(job, session)
    sys.stdout.write(table(findings))
    if any(finding.level == "fail" for finding in findings):
        sys.stderr.write("Not sent: a check has failed. HINT: mend it.\n")
        return 1
    if given.dry_run:
        return 0
    name = sdk.start(job, session)
    from lightning_sagemaker.jobs.description import console_link
    from lightning_sagemaker.jobs.following import follow

    sys.stdout.write(f"{name}\n{console_link(name, session.region_name)}\n")
    log = _Log(sys.stdout)
    code = follow(name, session, out=log)
    return max(_report(log.lines, given.output), code)


def _report(log: Iterable[str], output: Path, *, nothing_heard: int = 1) -> int:
    from lightning_sagemaker.probe.report import as_markdown, failed, report

    try:
        found = report(log)
    except ValueError as error:
        sys.stderr.write(f"lightning-sagemaker probe: error: {redact(str(error))}\n")
        return nothing_heard
    output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write(f"\n{as_markdown(found)}\nreport: {output}\n", sys.stdout)
    return int(failed(found))


class _Log(io.StringIO):
    """Keeps a log, and shows those lines of it that are for people."""

    def __init__(self, shown: TextIO) -> None:
        super().__init__()
        self._shown = shown
        self._begun = ""
        self.lines: list[str] = []

    def write(self, text: str) -> int:
        from lightning_sagemaker.probe.lines import MARK

        *whole, self._begun = (self._begun + text).split("\n")
        self.lines += whole
        self._shown.write("".join(f"{line}\n" for line in whole if MARK not in line))
        return len(text)

    def flush(self) -> None:
        self._shown.flush()
