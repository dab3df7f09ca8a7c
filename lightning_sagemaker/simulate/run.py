"""One simulation from beginning to end: folders, processes, a second start after an interruption, report."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from lightning_sagemaker.redaction import redact
from lightning_sagemaker.simulate import container, interruption, plan, source
from lightning_sagemaker.simulate.checkpoints import CheckpointPlace
from lightning_sagemaker.simulate.status import Console
from lightning_sagemaker.simulate.supervisor import Supervisor

if TYPE_CHECKING:
    from lightning_sagemaker.simulate.diagnosis import Failure
    from lightning_sagemaker.simulate.spec import Simulation


_PAGE = 1024  # characters of a failure file that SageMaker shows


@dataclass(frozen=True)
class Result:
    """How a simulated job ended.

    Args:
        exit_code: The job's exit code: that of the rank that failed first, 128 + n for signal n, 0 for success. Of two
            starts it is that of the second.
        seconds: How long it ran.
        folder: Folder with the hosts' files, or None where it was removed.
        failure: The first failure.
        starts: How often it was started.
    """

    exit_code: int
    seconds: float
    folder: Path | None
    failure: Failure | None
    starts: int = 1


def simulate(job: Simulation, out: TextIO | None = None, err: TextIO | None = None) -> Result:
    """Run a training job on this machine as SageMaker would run it on a cluster.

    Args:
        job: What to run.
        out: Receives what the job prints to its standard output, each line with host and rank.
        err: Receives what the job prints to its standard error, and this simulation's own lines.

    Returns:
        How it ended. The hosts' folders are kept when a folder was named, or on demand.
    """
    console = Console(out or sys.stdout, err or sys.stderr)
    cluster, starts = _cluster(job), 1
    code, failure, interrupted = _start(cluster, console)
    if interrupted and job.restart:
        starts = 2
        for host in job.host_names:  # these machines are gone, with all that was on them
            shutil.rmtree(cluster.root / host)
        cluster = cluster.started_again()
        console.note("the job is started again on new hosts, with its checkpoints and nothing else")
        code, failure, _ = _start(cluster, console)

    seconds = console.elapsed
    folder = cluster.root if job.keep or job.work_dir is not None else None
    kept = f", files kept in {folder}" if folder else ", files removed (--keep keeps them)" if code else ""
    console.note(f"ended after {seconds:.1f} s with exit code {code}{kept}")
    _tell_results(cluster, failure.host if failure else None, console, kept=folder is not None)
    if folder is None:
        shutil.rmtree(cluster.root)
    if failure:
        rank = "" if failure.rank is None else f", rank {failure.rank}"
        console.note(f"the job failed on {failure.host}{rank}, exit code {failure.code}:")
        _tell_error(failure.error, job, console)
    return Result(code, seconds, folder, failure, starts)


def _tell_results(cluster: container.Cluster, failed: str | None, console: Console, *, kept: bool) -> None:
    """What the hosts' folders hold that SageMaker would upload, or show on the job's page."""
    job = cluster.job
    for host in job.launcher_hosts:
        model = cluster.base(host) / "model"
        if kept and model.is_dir() and any(model.iterdir()):
            console.note(f"{host} wrote a model: {model}")
    hosts = sorted(job.launcher_hosts, key=lambda host: host != failed)  # the page shows one: that which failed first
    files = [path for path in (cluster.base(host) / "output/failure" for host in hosts) if path.is_file()]
    if files:
        console.note("output/failure, which the job's page shows:")
        with files[0].open(encoding="utf-8", errors="replace") as file:
            _tell_error(file.read(_PAGE).strip().splitlines(), job, console)


def _tell_error(lines: list[str], job: Simulation, console: Console) -> None:
    """Show an error without secrets: people paste it into reports. The job's own output is shown as it is."""
    error = redact("\n".join(lines), {**os.environ, **job.environment})
    console.lines([f"  {line}" for line in error.splitlines()], error=True)


def _start(cluster: container.Cluster, console: Console) -> tuple[int, Failure | None, bool]:
    """Start the job's hosts and wait until they have ended; whether they were interrupted."""
    job = cluster.job
    for host in job.host_names:
        container.create(cluster, host)
    shape = f"{job.hosts} x {job.processes_per_host}, SDK {job.sdk}, {job.distribution}"
    console.note(f"{cluster.name}: {shape}, leader {job.leader_host}, folder {cluster.root}")
    with tempfile.TemporaryDirectory(prefix="sagemaker-ranks-") as pipes:
        made = plan.make(cluster, Path(pipes))
        for note in (*made.notes, *source.notes(job, cluster.sent)):
            console.note(note)
        supervisor = Supervisor(
            made,
            console,
            mark=cluster.mark,
            title=cluster.name,
            hosts=job.hosts,
            grace=job.grace,
            interruption=interruption.of(job),
            verbose=job.verbose,
        )
        code, failure = supervisor.run()
    if cluster.place is not None:
        cluster.place.copy_back()
        console.note(f"the job's place for checkpoints, {cluster.place.folder}, holds {cluster.place.count} files")
    if job.interrupt_after is not None and code == 0:
        console.note(
            f"the job ended before it was interrupted (--interrupt-after {job.interrupt_after:g}): no restart was"
            " rehearsed. HINT: fewer seconds, or a longer training."
        )
    return code, failure, supervisor.interrupted


def _cluster(job: Simulation) -> container.Cluster:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", job.script.stem).strip("-")[:24] or "script"
    now = datetime.now(tz=timezone.utc)
    name = f"{stem}-{now:%Y-%m-%d-%H-%M-%S}-{now.microsecond // 1000:03d}"
    sent = source.read(job)  # before there is anything of ours, which may lie in that folder
    if job.work_dir is None:
        root = Path(tempfile.mkdtemp(prefix="sagemaker-")).resolve()
    else:
        root = job.work_dir.resolve()
        root.mkdir(parents=True, exist_ok=True)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    place = CheckpointPlace((job.checkpoints or root / "checkpoints").resolve()) if job.has_checkpoints else None
    return container.Cluster(job, name, root, container.free_port(), region, sent, place)
