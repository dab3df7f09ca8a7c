"""The same launches on SageMaker: a job for each number of instances and launcher, then one report of all.

python -m benchmarks on-sagemaker submit --instance-type ml.p4d.24xlarge --role ROLE --output-uri s3://bucket/prefix
python -m benchmarks on-sagemaker gather build/benchmarks/jobs.json --wait

Each job runs `benchmarks/job.py`: all launches of all arms in turn, so that arms are compared on the same instances.
All jobs have the same image, the last with SMDDP. `submit` needs the extra `submit`, `gather` boto3 and what
the reports need.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import environment
from benchmarks.job import DEVICES, LIMIT, SCALES, launches
from benchmarks.plan import World
from lightning_sagemaker.findings import Finding, table
from lightning_sagemaker.instances import instance
from lightning_sagemaker.settings import METRICS, ON_MISSING
from lightning_sagemaker.smddp.availability import INSTANCE_TYPES
from lightning_sagemaker.submit import TrainingJob, check, start
from lightning_sagemaker.submit.images import SMDDP_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent
IN_JOB = ("__init__.py", "environment.py", "job.py", "models.py", "plan.py", "samples.py", "steps.py", "workers/*.py")
ENTRY = "benchmark.py"
ENTRY_SCRIPT = "from benchmarks.job import main\n\nraise SystemExit(main())\n"
LAUNCHERS = {"torchrun": "torchrun", "smddprun": "mpirun"}  # `submit`'s name, and what processes in the job see
ANY_LIGHTNING = "lightning>=2.2,!=2.6.2,!=2.6.3"
FAILED, BAD_INPUT = 1, 2


@dataclass
class Sent:
    """A job that is to be sent, or was.

    Attributes:
        instance_count: Of the job.
        launcher: ``submit``'s name of it.
        name: SageMaker's name of the job; None until it is sent.
    """

    instance_count: int
    launcher: str
    name: str | None = None


@dataclass
class Jobs:
    """What a jobs file holds: all that `gather` needs to know of what was sent.

    Attributes:
        region: AWS region.
        instance_type: Of all instances.
        suites: Of each job.
        launches: Of each arm.
        scale: See `benchmarks/job.py`.
        device: See `benchmarks/job.py`.
        git_hash: Of the benchmark program that was sent.
        time: When, UTC.
        jobs: All.
    """

    region: str
    instance_type: str
    suites: list[str]
    launches: int
    scale: str
    device: str
    git_hash: str | None
    time: str
    jobs: list[Sent] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the file; renamed into place, since names of jobs that cost money must not be lost half-way."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        part.replace(path)

    @staticmethod
    def read(path: Path) -> Jobs:
        """Read the file.

        Raises:
            ValueError: It is no jobs file.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return Jobs(**{**content, "jobs": [Sent(**job) for job in content["jobs"]]})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is no jobs file ({error}). HINT: `python -m benchmarks on-sagemaker submit` writes one."
            ) from error


def make_source(folder: Path) -> Path:
    """Fill a folder with what a job needs; the entry script in it."""
    for pattern in IN_JOB:
        for path in sorted(HERE.glob(pattern)):
            target = folder / HERE.name / path.relative_to(HERE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    entry = folder / ENTRY
    entry.write_text(ENTRY_SCRIPT, encoding="utf-8")
    return entry


def describe_all(given: argparse.Namespace, entry: Path) -> Iterator[TrainingJob]:
    """All jobs, small ones first: what is wrong with all shows at the lowest price.

    Raises:
        ValueError: An argument is malformed, or a suite unknown.
    """
    for count in sorted(set(given.instance_counts)):
        for launcher in dict.fromkeys(given.launchers):
            yield TrainingJob(
                entry,
                name=f"benchmark-{count}-{launcher}",
                instance_type=given.instance_type,
                instance_count=count,
                launcher=launcher,
                torch=SMDDP_VERSION,
                image=given.image,
                arguments=(
                    *("--device", given.device, "--launches", str(given.launches), "--limit", f"{given.limit:g}"),
                    *("--scale", given.scale, "--suites", given.suites),
                ),
                requirements=(*given.requirements, *_lightning(given.requirements)),
                # Lines of metrics are work that the plugin would do in one arm only; and an arm `smddp` that goes on
                # without SMDDP, as a user's training does, would be NCCL under another name.
                env={METRICS: "0", ON_MISSING: "error"},
                role=given.role,
                output_uri=given.output_uri,
                subnets=given.subnets,
                security_groups=given.security_groups,
                max_run=given.max_run,
            )


def _lightning(requirements: Sequence[str]) -> list[str]:
    """The distribution that the workers import, which `submit` would not choose where only the other is installed."""
    if any(re.match(r"lightning\b(?!-)", line) for line in requirements):
        return []
    try:
        return [f"lightning=={importlib.metadata.version('lightning')}"]
    except importlib.metadata.PackageNotFoundError:
        return [ANY_LIGHTNING]


def check_smddp(job: TrainingJob) -> Finding:
    """Whether the arm `smddp` would be what it is called; `submit` cannot know, since the arm sets the strategy."""
    if job.instance_type in INSTANCE_TYPES:
        return Finding("arm smddp", "ok", f"SMDDP supports {job.instance_type}.")
    return Finding(
        "arm smddp",
        "fail",
        f"{job.instance_type} is not supported by SMDDP, which the arm `smddp` measures.",
        f"HINT: --instance-type {' or '.join(INSTANCE_TYPES)}.",
    )


def in_words(job: TrainingJob, suites: Sequence[str], given: argparse.Namespace) -> str:
    """How many launches a job makes; how long they take is not known."""
    known = instance(job.launched.instance_type)
    world = World(job.instance_count, known.gpus if known else 1, LAUNCHERS[str(job.launcher)], given.device == "gpu")
    count = len(launches(suites, world, full=given.scale == "full", count=given.launches))
    return f"{job.name}: {count} launches in at most {job.max_run / 3600:g} h"


def hours(jobs: Sequence[TrainingJob]) -> str:
    """The upper bound of what is spent."""
    total = sum(job.instance_count * job.max_run for job in jobs) / 3600
    return (
        f"{len(jobs)} job(s), at most {total:g} instance-hours of {jobs[0].instance_type} (each job's instances x"
        f" --max-run {jobs[0].max_run} s). How long they take is not known; nor is their price to this program."
    )


def confirmed(given: argparse.Namespace) -> bool:
    """Whether the money may be spent."""
    if given.yes:
        return True
    if not sys.stdin.isatty():
        sys.stderr.write("Not sent: nobody to ask. HINT: --yes.\n")
        return False
    return input("Send them? [y/N] ").strip().lower() in ("y", "yes")


def submit(given: argparse.Namespace) -> int:
    """Describe, check, ask, and send."""
    suites = given.suites.split(",")
    if given.jobs.exists() and not given.dry_run:
        raise FileExistsError(
            f"{given.jobs} exists, and holds the names of jobs that were sent. HINT: `gather` them, then move it, or"
            " give another with --jobs."
        )
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        jobs = list(describe_all(given, make_source(Path(folder))))
        told = [in_words(job, suites, given) for job in jobs]
        session, failed = _session(given.region), False
        for job, line in zip(jobs, told, strict=True):
            findings = [*check(job, session), check_smddp(job)]
            failed |= any(finding.level == "fail" for finding in findings)
            print(f"{line}\n\n{job}\n\n{table(findings)}")
        print(hours(jobs), flush=True)
        if failed:
            sys.stderr.write("Nothing is sent: a check has failed. HINT: mend it.\n")
            return FAILED
        if given.dry_run:
            return 0
        if not confirmed(given):
            return FAILED
        return send(given, jobs, session)


def send(given: argparse.Namespace, jobs: Sequence[TrainingJob], session: Any) -> int:  # noqa: ANN401 - boto3's
    """Send the jobs; the file says at every moment which are."""
    file = Jobs(
        region=session.region_name,
        instance_type=given.instance_type,
        suites=given.suites.split(","),
        launches=given.launches,
        scale=given.scale,
        device=given.device,
        git_hash=environment.git_hash(),
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        jobs=[Sent(job.instance_count, str(job.launcher)) for job in jobs],
    )
    for number, (job, entry) in enumerate(zip(jobs, file.jobs, strict=True)):
        left = f"{len(jobs) - number} of {len(jobs)} jobs are not sent"
        try:
            name = entry.name = start(job, session)
        except Exception as error:  # noqa: BLE001 - whatever it is: those that run already must be named
            file.write(given.jobs)
            sys.stderr.write(f"{left}: {job.name}: {type(error).__name__}: {error}\n{given.jobs}\n")
            return FAILED
        file.write(given.jobs)
        print(name, flush=True)
        if given.one_at_a_time and number + 1 < len(jobs):
            from benchmarks.gathering import Service  # noqa: PLC0415 - needs botocore

            (state,) = Service(session).states([name], wait=True, every=given.every)
            print(f"{name}: {state}", flush=True)
            if state.status != "Completed":
                sys.stderr.write(
                    f"{len(jobs) - number - 1} of {len(jobs)} jobs are not sent, as this one was not completed."
                    f"\n{given.jobs}\n"
                )
                return FAILED
    print(given.jobs)
    return 0


def gather(given: argparse.Namespace) -> int:
    """Fetch what the jobs wrote, and report."""
    from benchmarks.gathering import gather  # noqa: PLC0415 - needs what reports need

    file = Jobs.read(given.jobs)
    return gather(file, _session(file.region), given.output, wait=given.wait, every=given.every)


def _session(region: str | None) -> Any:  # noqa: ANN401 - boto3's
    try:
        import boto3  # noqa: PLC0415 - `--help` needs none
    except ImportError:
        raise ImportError("boto3 is not installed. HINT: pip install 'lightning-sagemaker[submit]'.") from None
    return boto3.Session(region_name=region)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks on-sagemaker",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="submit|gather")
    one = commands.add_parser("submit", help="describe, check, ask, and send the jobs")
    add = one.add_argument
    add("--instance-type", required=True, metavar="TYPE", help=" or ".join(INSTANCE_TYPES))
    add("--instance-counts", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N", help="(default: 1 2 4 8)")
    add("--launchers", nargs="+", choices=LAUNCHERS, default=list(LAUNCHERS), help="(default: both)")
    add("--suites", default="training,collectives", metavar="NAME,...", help="(default: %(default)s)")
    add("--launches", type=int, default=6, metavar="N", help="of each arm in each job (default: %(default)s)")
    add("--scale", choices=SCALES, default="full", help="models and sizes (default: %(default)s)")
    add("--device", choices=DEVICES, default="gpu", help="of each process (default: %(default)s)")
    add("--limit", type=float, default=LIMIT, metavar="SECONDS", help="for one launch (default: %(default)g)")
    add("--role", help="execution role: ARN or name (default: the SDK's)")
    add("--output-uri", required=True, metavar="S3URI", help="where jobs write to")
    add("--image", metavar="URI", help=f"(default: AWS's PyTorch training image {SMDDP_VERSION})")
    add(
        "--requirement", dest="requirements", action="append", default=[], metavar="LINE", help="or a wheel; repeatable"
    )
    add("--region", help="AWS region (default: that of your AWS configuration)")
    add("--subnet", dest="subnets", action="append", default=[], metavar="ID", help="repeatable")
    add("--security-group", dest="security_groups", action="append", default=[], metavar="ID", help="repeatable")
    add("--max-run", type=int, default=14_400, metavar="SECONDS", help="of each job (default: %(default)s)")
    add("--jobs", type=Path, default=Path("build/benchmarks/jobs.json"), metavar="FILE", help="(default: %(default)s)")
    add("--one-at-a-time", action="store_true", help="each job when the one before it has completed")
    add("--every", type=float, default=60.0, metavar="SECONDS", help="between questions (default: %(default)g)")
    add("--dry-run", action="store_true", help="describe and check, and send nothing")
    add("--yes", action="store_true", help="send without asking")
    one.set_defaults(run=submit)
    other = commands.add_parser("gather", help="fetch what the jobs wrote, and report")
    add = other.add_argument
    add("jobs", type=Path, metavar="FILE", help="what `submit` wrote")
    add("--output", type=Path, default=Path("build/benchmarks/on-sagemaker"), metavar="FOLDER")
    add("--wait", action="store_true", help="until all jobs have ended")
    add("--every", type=float, default=60.0, metavar="SECONDS", help="between questions (default: %(default)g)")
    other.set_defaults(run=gather)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; 1 where a check or a job failed or the report is unfit, 2 for bad input."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except (ImportError, OSError, ValueError) as error:
        sys.stderr.write(f"benchmarks on-sagemaker: error: {error}\n")
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
