"""One simulation from beginning to end: folders, processes, a second start after an interruption, report."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.folders import walk
from lightning_sagemaker.options import some, write
from lightning_sagemaker.redaction import redact
from lightning_sagemaker.simulate import container, own_disk, plan, processes, source
from lightning_sagemaker.simulate.checkpoints import CheckpointPlace, files
from lightning_sagemaker.simulate.output import Console
from lightning_sagemaker.simulate.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_sagemaker.simulate.failures import Failure
    from lightning_sagemaker.simulate.spec import Simulation
    from lightning_sagemaker.source_folder import Source


_PREFIX = "sagemaker-"
_PAGE = 1024  # characters of a failure file that SageMaker shows


@dataclass(frozen=True)
class Result:
    """How a simulated job ended; it prints as lines, in a notebook too.

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

    def ended(self) -> str:
        """One line on the end."""
        removed = ", files removed (--keep keeps them)" if self.exit_code else ""
        kept = f", files kept in {self.folder}" if self.folder else removed
        starts = f", after {self.starts} starts" if self.starts > 1 else ""
        return f"ended after {self.seconds:.1f} s with exit code {self.exit_code}{starts}{kept}"

    def __str__(self) -> str:
        return f"{self.ended()}\n{self.failure}" if self.failure else self.ended()

    __repr__ = __str__


def run(job: Simulation) -> Result:
    """Run a training job, as `lightning_sagemaker.simulate.simulate` does."""
    console = Console(sys.stdout, sys.stderr)
    sent = source.read(job)  # before there is anything of ours, which may lie in that folder
    with processes.handling_signals(processes.raise_signal), _root(job) as root:
        cluster, starts = _cluster(job, root, sent), 1
        # One host has nobody to be kept apart from, but for what it was before a second start.
        apart = not job.shared_disk and (job.hosts > 1 or job.restart)
        code, failure, interrupted = _start(cluster, console, apart=apart)
        if interrupted and job.restart:
            starts = 2
            for host in job.host_names:  # these machines are gone, with all that was on them
                _remove(root / host)
                if (root / host).exists():
                    raise OSError(f"{root / host} could not be removed, so the job was not started again.")
            cluster = replace(cluster, job=job.started_again(), port=container.free_port())
            console.note("the job is started again on new hosts, with its checkpoints and nothing else")
            code, failure, _ = _start(cluster, console, apart=apart)

        folder = root if job.keep or job.work_dir is not None else None
        failure = failure and replace(failure, error=_without_secrets(failure.error, job))
        result = Result(code, console.elapsed, folder, failure, starts)
        console.note(result.ended())
        _tell_results(cluster, failure.host if failure else None, console, kept=folder is not None)
    if failure:
        console.note(failure.happened())
        console.lines([f"  {line}" for line in failure.error], error=True)
    return result


def _root(job: Simulation) -> contextlib.AbstractContextManager[Path]:
    """The folder of the hosts' folders; a temporary one is gone at the end."""
    if job.work_dir is None and not job.keep:
        return _temporary_folder(_PREFIX)
    root = Path(tempfile.mkdtemp(prefix=_PREFIX) if job.work_dir is None else job.work_dir).resolve()
    root.mkdir(parents=True, exist_ok=True)
    return contextlib.nullcontext(root)


@contextlib.contextmanager
def _temporary_folder(prefix: str, where: str | None = None) -> Iterator[Path]:
    """A temporary folder, its path without links, removed at the end."""
    # A signal waits until the folder is known, and until it is gone: between, it raises and is not missed.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, processes.SIGNALS)
    try:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=where)).resolve()
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield made
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, processes.SIGNALS)
            _remove(made)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _remove(folder: Path) -> None:
    """Remove a folder with what a script left in it, folders without the right to write among it.

    What stays all the same is named: the job has ended as it has.
    """
    for here, names, _ in os.walk(folder):  # each before what is in it is listed
        for name in names:
            path = os.path.join(here, name)  # noqa: PTH118 - of any bytes, as os.walk has it
            with contextlib.suppress(OSError):
                if not os.path.islink(path):  # noqa: PTH114
                    os.chmod(path, 0o700)  # noqa: PTH101
    try:
        shutil.rmtree(folder)
    except OSError as error:
        write(f"simulate: the folder {folder} could not be removed: {error}. HINT: rm -r, as its owner.\n", sys.stderr)


def _tell_results(cluster: container.Cluster, failed: str | None, console: Console, *, kept: bool) -> None:
    """What the hosts' folders hold that SageMaker would upload, or show on the job's page."""
    job = cluster.job
    for host in job.launcher_hosts:
        model = cluster.base(host) / "model"
        if kept and next(walk(model), None):
            console.note(f"{host} wrote a model: {model}")
    hosts = sorted(job.launcher_hosts, key=lambda host: host != failed)  # the page shows one: that which failed first
    failures = [path for path in (cluster.base(host) / "output/failure" for host in hosts) if path.is_file()]
    if failures:
        console.note("output/failure, which the job's page shows:")
        with failures[0].open(encoding="utf-8", errors="replace") as file:
            lines = _without_secrets(file.read(_PAGE).strip().splitlines(), job)
        console.lines([f"  {line}" for line in lines], error=True)


def _without_secrets(lines: list[str], job: Simulation) -> list[str]:
    """What is reported of an error: people paste it elsewhere. The job's own output is shown as it is."""
    return redact("\n".join(lines), {**os.environ, **job.environment}).splitlines()


def _start(cluster: container.Cluster, console: Console, *, apart: bool) -> tuple[int, Failure | None, bool]:
    """Start the job's hosts, each with its own disk if possible, and wait; say whether they were interrupted."""
    job = cluster.job
    for host in job.host_names:
        container.create(cluster, host)
    shape = f"{job.hosts} x {job.processes_per_host}, SDK {job.sdk}, {job.distribution}"
    console.note(f"{cluster.name}: {shape}, leader {job.leader_host}, folder {cluster.root}")
    # mpirun takes the path of what starts its daemons apart at blanks.
    blank = re.search(r"\s", tempfile.gettempdir())
    with _temporary_folder(f"{_PREFIX}ranks-", "/tmp" if blank else None) as pipes:  # noqa: S108 - random names in it
        refused = own_disk.refused(str(cluster.root), job.leader_host) if apart else ""
        made = plan.make(cluster, pipes, own_disks=apart and not refused)
        if refused:
            console.note(
                f"hosts see each other's files, as those of a job do not: {refused}. HINT: on Linux, root's rights or"
                " user namespaces; --shared-disk asks for it, without this line"
            )
        for note in made.notes:
            console.note(note)
        supervisor = Supervisor(made, console, cluster)
        code, failure = supervisor.run()
    if cluster.place is not None:
        if lost := cluster.place.copy_back():
            console.note(f"not kept, since a host made a file where another one made a folder: {some(lost)}")
        folder = cluster.place.folder
        console.note(f"the job's place for checkpoints, {folder}, holds {len(files(folder))} files")
    if job.restart and job.interrupt_after is not None and code == 0:
        console.note(
            f"the job ended before it was interrupted (--interrupt-after {job.interrupt_after:g}): no restart was"
            " rehearsed. HINT: fewer seconds, or a longer training."
        )
    return code, failure, supervisor.interrupted


def _cluster(job: Simulation, root: Path, sent: Source) -> container.Cluster:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", job.path.stem).strip("-")[:24] or "script"
    name = f"{stem}-{datetime.now(tz=timezone.utc):%Y-%m-%d-%H-%M-%S-%f}"[:-3]  # to the millisecond
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    place = None
    if job.checkpoints is not None or job.restart:
        place = CheckpointPlace(Path(job.checkpoints or root / "checkpoints").resolve())
    return container.Cluster(job, name, root, container.free_port(), region, sent, place)
