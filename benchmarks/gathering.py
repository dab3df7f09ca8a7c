"""Downloads what the jobs of `benchmarks/on_sagemaker.py` wrote, and makes one report of it."""

from __future__ import annotations

import io
import json
import re
import tarfile
import time
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.job import launches
from benchmarks.on_sagemaker import FAILED, LAUNCHERS, Jobs, Sent
from benchmarks.plan import World
from benchmarks.samples import Launch, append, read
from benchmarks.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.plan import Planned

ENDED = ("Completed", "Failed", "Stopped")
BETWEEN = """\
Step times of one launcher beside those of the other. They are of different jobs, on other instances at another time,
which no interval here covers: so no ratio and no verdict."""


@dataclass(frozen=True)
class State:
    """How a job stands.

    Attributes:
        status: SageMaker's, or "unknown".
        reason: Why it failed.
        billed: Seconds, of each instance.
        output: S3 URI of the folder to which it uploads.
    """

    status: str
    reason: str = ""
    billed: int | None = None
    output: str = ""

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}" if self.reason else self.status


class Service:
    """SageMaker and S3, as far as they are needed here."""

    def __init__(self, session: Any) -> None:  # noqa: ANN401 - a boto3.Session
        from botocore.config import Config  # noqa: PLC0415 - of an extra
        from botocore.exceptions import ClientError  # noqa: PLC0415 - the same

        patient = Config(retries={"mode": "adaptive", "max_attempts": 10})  # many jobs are many questions
        self._sagemaker = session.client("sagemaker", config=patient)
        self._s3 = session.client("s3", config=patient)
        self._error = ClientError

    def states(self, names: Sequence[str], *, wait: bool, every: float) -> list[State]:
        """How jobs stand, if asked for when all have ended."""
        while True:
            found = [self._state(name) for name in names]
            running = [name for name, state in zip(names, found, strict=True) if not ended(state)]
            if not wait or not running:
                return found
            print(f"{len(running)} of {len(names)} jobs have not ended: {', '.join(running)}", flush=True)
            time.sleep(every)

    def _state(self, name: str) -> State:
        try:
            job = self._sagemaker.describe_training_job(TrainingJobName=name)
        except self._error as error:
            return State("unknown", str(error))
        root = job["OutputDataConfig"]["S3OutputPath"].rstrip("/")
        return State(
            job["TrainingJobStatus"],
            job.get("FailureReason") or "",
            job.get("BillableTimeInSeconds"),
            f"{root}/{name}/output/",
        )

    def samples(self, uri: str) -> Iterator[bytes]:
        """All samples files under an S3 URI, in archives or not.

        SageMaker makes one output.tar.gz of all hosts' output folders. Only one host, rank 0's, writes to its own, but
        which one it is differs from job to job; whatever lies there is taken.
        """
        try:
            yield from self._samples(*uri.removeprefix("s3://").split("/", 1))
        except self._error as error:
            raise OSError(f"{uri} cannot be read: {error}. HINT: s3:ListBucket and s3:GetObject are needed.") from error

    def _samples(self, bucket: str, prefix: str) -> Iterator[bytes]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for key in (entry["Key"] for entry in page.get("Contents", ())):
                if key.endswith((".jsonl", ".tar.gz")):
                    content = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
                    yield from [content] if key.endswith(".jsonl") else _in_archive(content)


def _in_archive(content: bytes) -> Iterator[bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".jsonl") else None
            if file is not None:
                yield file.read()


def ended(state: State) -> bool:
    """Whether no more will come of it."""
    return state.status in (*ENDED, "unknown")


@dataclass
class Result:
    """A job and its result.

    Attributes:
        sent: The job.
        state: How it stands.
        launches: What it measured, each once.
        missing: Launches that were planned and are not there.
        problem: Why its launches are left out of the report.
    """

    sent: Sent
    state: State
    launches: list[Launch]
    missing: int
    problem: str = ""

    @property
    def complete(self) -> bool:
        """Whether all is there that was to be measured."""
        return self.state.status == "Completed" and not self.missing and not self.problem

    def cells(self) -> tuple[str, ...]:
        """Line of the report's table."""
        measured = len({_identity(launch) for launch in self.launches})
        told = " ".join(filter(None, (self.state.reason, self.problem)))
        return (
            self.sent.name or "-",
            str(self.sent.instance_count),
            self.sent.launcher,
            self.state.status,
            f"{measured} of {measured + self.missing}",
            "-" if self.state.billed is None else f"{self.state.billed} s x {self.sent.instance_count}",
            re.sub(r"\s+", " ", told) or "-",
        )


def once(found: Iterable[Launch]) -> list[Launch]:
    """Each launch once; of those that a restarted job made twice, the later one."""
    by_key = {_key(launch): launch for launch in sorted(found, key=lambda launch: launch.time)}
    return list(by_key.values())


def _key(launch: Launch) -> tuple[str, str, str, int]:
    return (launch.suite, launch.case, launch.arm, launch.index)


def _identity(launch: Launch | Planned) -> tuple[str, str, int, str]:
    """Of a launch as it was planned: what it measured may be many cases."""
    return (launch.suite, launch.arm, launch.index, json.dumps(launch.settings, sort_keys=True))


def judged(file: Jobs, sent: Sent, state: State, found: list[Launch]) -> Result:
    """A job's launches against those that were planned."""
    asked = (sent.instance_count, LAUNCHERS[sent.launcher])
    for launch in found:
        ran = (launch.environment.hosts, launch.environment.launcher)
        problem = ""
        if ran != asked:
            problem = f"Left out: it ran {ran[0]} host(s) by {ran[1]}, not {asked[0]} by {asked[1]}."
        elif launch.arm == "smddp" and launch.environment.backend != "smddp":
            problem = f"Left out: the arm smddp ran over {launch.environment.backend}."
        if problem:
            return Result(sent, state, [], len(_planned(file, sent, found)), problem)
    missing = {_identity(each) for each in _planned(file, sent, found)} - {_identity(launch) for launch in found}
    return Result(sent, state, found, len(missing))


def _planned(file: Jobs, sent: Sent, found: Sequence[Launch]) -> list[Planned]:
    # How many processes an instance has, the launches say; without any only their number is asked for.
    processes = int(found[0].settings["processes_per_host"]) if found else 1
    world = World(sent.instance_count, processes, LAUNCHERS[sent.launcher], file.device == "gpu")
    return launches(file.suites, world, full=file.scale == "full", count=file.launches)


def apart(file: Jobs, launch: Launch) -> Launch:
    """The launch as one of many jobs: launchers in suites of their own, and worlds in cases of their own."""
    hosts, processes = launch.environment.hosts, launch.settings["processes_per_host"]
    world = f"{hosts} x {processes}"
    return replace(
        launch,
        suite=f"{launch.suite}, {launch.environment.launcher}",
        case=launch.case if launch.case.endswith(world) else f"{launch.case}, {world}",
        # The folder that was sent is no repository.
        environment=replace(launch.environment, git_hash=launch.environment.git_hash or file.git_hash),
    )


def gather(file: Jobs, session: Any, folder: Path, *, wait: bool, every: float) -> int:  # noqa: ANN401 - boto3's
    """Fetch and report; 1 if a job has not ended, not all is there, or the report is unfit."""
    service = Service(session)
    names = [job.name for job in file.jobs if job.name is not None]
    states = dict(zip(names, service.states(names, wait=wait, every=every), strict=True))
    if running := [f"{name}: {state}" for name, state in states.items() if not ended(state)]:
        print("\n".join(["These jobs have not ended. HINT: --wait.", *running]))
        return FAILED
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    results = []
    for sent in file.jobs:
        state = states[sent.name] if sent.name is not None else State("not sent")
        found: list[Launch] = []
        for number, content in enumerate(service.samples(state.output) if state.output else ()):
            path = folder / "jobs" / f"{sent.name}-{number}.jsonl"
            path.write_bytes(content)
            found += read(path)
        results.append(judged(file, sent, state, once(found)))
    return write(file, results, folder)


def write(file: Jobs, results: Sequence[Result], folder: Path) -> int:
    """Write all samples as one file, and the report."""
    from benchmarks import report  # noqa: PLC0415 - needs scipy, which waiting for jobs does not

    merged = [apart(file, launch) for result in results for launch in result.launches]
    (folder / "samples.jsonl").unlink(missing_ok=True)  # of an earlier gathering
    append(folder / "samples.jsonl", *merged)
    incomplete = [result for result in results if not result.complete]
    for result in incomplete:
        print(" | ".join(result.cells()))
    if not merged:
        print("No job has left a launch: there is nothing to report.")
        return FAILED
    suites = report.write(merged, folder)
    _add_jobs(file, results, merged, folder)
    print(folder / "report.md")
    return FAILED if incomplete or any(suite.unfit for suite in suites) else 0


def _add_jobs(file: Jobs, results: Sequence[Result], merged: Sequence[Launch], folder: Path) -> None:
    """Say in the report which jobs it is made of, and which are missing."""
    incomplete = sum(not result.complete for result in results)
    path = folder / "report.md"
    title, _, rest = path.read_text(encoding="utf-8").partition("\n")
    warning = f"\nIncomplete: {incomplete} of {len(results)} jobs, see below under Jobs.\n" if incomplete else ""
    lines = [
        *("", "## Jobs", "", f"Sent at {file.time} to {file.region}, on {file.instance_type}.", ""),
        *table(
            ("job", "instances", "launcher", "status", "launches", "billed", "failure"),
            (result.cells() for result in results),
        ),
        *("", "## Between launchers", "", BETWEEN, ""),
        *table(("suite", "case", "arm", *LAUNCHERS.values()), _between(merged)),
    ]
    path.write_text(f"{title}\n{warning}{rest}" + "\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "report.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["jobs"] = [
        {**asdict(result.sent), **asdict(result.state), "missing": result.missing, "problem": result.problem}
        for result in results
    ]
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _between(merged: Sequence[Launch]) -> Iterator[tuple[str, ...]]:
    from benchmarks.compare import metrics_of  # noqa: PLC0415 - needs scipy, as reports do
    from benchmarks.further import STEP  # noqa: PLC0415 - the same

    found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for launch in merged:
        step = metrics_of(launch).get(STEP)
        if step is not None and launch.role != "again":
            suite = launch.suite.rpartition(", ")[0]
            launcher = found.setdefault((suite, launch.case, launch.arm), {})
            launcher.setdefault(launch.environment.launcher, []).append(step)
    for key, launchers in found.items():
        times = (f"{median(launchers[name]):.5g} s" if name in launchers else "-" for name in LAUNCHERS.values())
        yield (*key, *times)
