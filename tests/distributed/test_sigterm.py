"""SIGTERM in real trainings, and the agreement itself between many ranks."""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch
from torch.distributed import HashStore  # type: ignore[attr-defined] # missing in torch's own list

from lightning_sagemaker import processes
from lightning_sagemaker.distributed import sigterm
from lightning_sagemaker.distributed.participants import Participants
from lightning_sagemaker.distributed.sigterm import StopAgreement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STOPPABLE = Path(__file__).parents[1] / "programs" / "stoppable.py"
FULL = os.environ.get("LIGHTNING_SAGEMAKER_FULL") == "1"
PACKAGES = [name for name in ("lightning", "pytorch_lightning") if importlib.util.find_spec(name)]
MODULES = [{"lightning": "lightning.pytorch"}.get(name, name) for name in PACKAGES]
LATER = -1  # in a list of ranks: wait a moment
SCRIPT = -2  # the same: the process that has started the ranks, and is none


class Job:
    """A simulated job that trains until it is stopped."""

    def __init__(self, folder: Path, case: Case, *arguments: str) -> None:
        distribution, hosts, processes, *_ = case
        self.folder = folder
        self.world = range(hosts * processes)
        folder.mkdir()
        command = [sys.executable, "-m", "lightning_sagemaker.cli", "simulate", "--hosts", str(hosts)]
        command += ["--processes-per-host", str(processes), "--distribution", distribution]
        command += [
            *case.options,
            "--verbose",
            "--work-dir",
            str(folder / "hosts"),
            "--checkpoints",
            str(folder / "checkpoints"),
        ]
        command += [str(STOPPABLE), "--", "--folder", str(folder), *arguments]
        if distribution == "none":
            command += ["--devices", str(processes)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.output = ""

    def pids(self) -> list[int]:
        """Processes of all ranks, once they train."""
        deadline = time.monotonic() + 120
        while not all((self.folder / f"pid-{rank}").exists() for rank in self.world):
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return [int((self.folder / f"pid-{rank}").read_text()) for rank in self.world]

    def terminate(self, *ranks: int) -> float:
        """Send SIGTERM to these ranks; the seconds until the job was gone."""
        pids = self.pids()
        starts = {pid: processes.start_of(pid) for pid in pids}
        start = time.monotonic()
        for rank in ranks:
            if rank == LATER:
                time.sleep(0.3)
            elif rank == SCRIPT:
                os.kill(int(processes._stat(pids[0])[1]), signal.SIGTERM)
            else:
                os.kill(pids[rank], signal.SIGTERM)
        self.output = self.process.communicate(timeout=120)[0]
        seconds = time.monotonic() - start
        while not all(
            processes.has_ended(pid, starts[pid]) for pid in pids
        ):  # mpirun ends at once after its ranks, or just before
            assert time.monotonic() - start - seconds < 10, self.output
        assert self.process.returncode not in (0, None), self.output
        return seconds

    def stopped_at(self, file: str = "stopped") -> list[int]:
        """At which step each rank was."""
        return [int((self.folder / f"{file}-{rank}").read_text()) for rank in self.world]

    @property
    def kept(self) -> Path:
        """Where the simulation left its files."""
        return Path(re.search(r"files kept in (\S+)", self.output)[1])  # type: ignore[index]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def start(case: Case, *arguments: str) -> Job:
        jobs.append(Job(tmp_path / f"job-{len(jobs)}", case, *arguments))
        return jobs[-1]

    yield start
    for job in jobs:
        if job.process.poll() is None:
            job.process.terminate()
            job.output = job.process.communicate(timeout=60)[0]


def train_undisturbed(steps: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        layer(torch.ones(4, 8)).pow(2).mean().backward()
        optimizer.step()
    return {f"layer.{name}": value for name, value in layer.state_dict().items()}


class Case(NamedTuple):
    """Which ranks of which job get SIGTERM."""

    distribution: str
    hosts: int
    processes: int
    ranks: tuple[int, ...]
    accumulate: int = 1
    resumes: bool = True
    strategy: str = "auto"
    options: tuple[str, ...] = ()  # of `simulate`


NO_FOLDER = ("--env", "LIGHTNING_SAGEMAKER_LOCK_DIR=/nowhere/at all")
CASES = [
    Case("torch_distributed", 2, 1, (1,), resumes=FULL),
    Case("none", 1, 2, (0,), accumulate=2),
    Case("smdistributed", 1, 2, (0, 1), resumes=FULL),
    Case("none", 2, 2, (1,), resumes=FULL, strategy="ddp_fork"),
    Case("none", 1, 2, (SCRIPT,), resumes=FULL, strategy="ddp_notebook"),
    Case("torch_distributed", 2, 2, (1,), resumes=FULL, options=NO_FOLDER),
]
if FULL:
    CASES += [Case("torch_distributed", 2, 4, (5,)), Case("mpi", 2, 4, (5,))]
    CASES += [
        Case(distribution, hosts, processes, ranks)
        for distribution in ("torch_distributed", "none", "smdistributed", "mpi")
        for hosts, processes in ((1, 2), (2, 2))
        for ranks in ((0,), (1,), tuple(range(hosts * processes)), (1, LATER, 0))
    ]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("package", MODULES if FULL else MODULES[:1])
def test_all_ranks_stop_at_the_same_batch_and_leave_one_checkpoint_to_resume_from(
    start: Callable[..., Job], tmp_path: Path, package: str, case: Case
) -> None:
    options = ["--package", package, "--accumulate", str(case.accumulate)]
    job = start(case, *options, "--strategy", case.strategy)
    seconds = job.terminate(*case.ranks)
    print(f"{case}: gone after {seconds:.1f} s")
    # Lightning calls `on_exception` in the script that has started the ranks, not in them.
    stopped_at = job.stopped_at("stopped" if case.strategy == "auto" else "saved")
    assert len(set(stopped_at)) == 1, job.output
    assert case.strategy == "auto" or job.process.returncode == 143, job.output
    step = stopped_at[0]
    (checkpoint,) = job.kept.glob("*/ml/checkpoints/**/*.checkpoint")
    saved = torch.load(checkpoint, weights_only=False)
    assert saved["global_step"] == step
    assert checkpoint.name == f"sigterm-epoch={saved['epoch']}-step={step}.checkpoint"
    assert len(re.findall(r"^\[algo.*SIGTERM ended the training", job.output, re.MULTILINE)) == 1
    for failure in job.kept.glob("*/ml/output/failure"):
        text = failure.read_text()
        host, rank = re.search(r"SIGTERM ended the training; it arrived on (\S+), rank (\d+)\. ", text).groups()  # type: ignore[union-attr]
        assert host.startswith("algo-")
        assert int(rank) in case.ranks or SCRIPT in case.ranks
        assert f"All ranks stopped at step {step}," in text
        assert str(checkpoint) in text
    assert len(list(job.kept.glob("*/ml/output/failure"))) == case.hosts
    if not case.resumes:
        return
    resumed = [sys.executable, str(STOPPABLE), "--folder", str(tmp_path), "--devices", "1", *options]
    resumed += ["--resume", str(checkpoint), "--steps", str(step + 10), "--pause", "0"]
    subprocess.run(resumed, check=True, capture_output=True, timeout=120)
    torch.testing.assert_close(torch.load(tmp_path / "weights-0", weights_only=True), train_undisturbed(step + 10))


def test_sigterm_in_the_validation_of_an_epoch_s_end_leaves_what_resumes_with_a_batch(
    start: Callable[..., Job], tmp_path: Path
) -> None:
    """Of a checkpoint of batch 0 Lightning takes the end of the epoch to be outstanding, and counts it again."""
    job = start(Case("none", 1, 1, ()), "--validated")
    job.output = job.process.communicate(timeout=120)[0]
    assert job.process.returncode == 143, job.output
    assert job.stopped_at() == [9]  # of 8 batches, and one more
    (checkpoint,) = job.kept.glob("*/ml/checkpoints/**/*.checkpoint")
    resumed = [sys.executable, str(STOPPABLE), "--folder", str(tmp_path), "--devices", "1", "--pause", "0"]
    subprocess.run([*resumed, "--resume", str(checkpoint), "--steps", "19"], check=True, capture_output=True)
    assert (tmp_path / "logged-0").read_text() == "19"


@pytest.mark.parametrize("distribution", ["torch_distributed", "none"] if FULL else ["none"])
def test_sigterm_while_testing_ends_the_job_at_once(start: Callable[..., Job], distribution: str) -> None:
    job = start(Case(distribution, 1, 2, ()), "--package", MODULES[0], "--stage", "test", "--handler")
    job.terminate(0)
    assert not list(job.kept.glob("*/ml/checkpoints/*"))
    assert (job.folder / f"handled-{(job.folder / 'pid-0').read_text()}").exists()
    (failure,) = job.kept.glob("*/ml/output/failure")
    assert failure.read_text() == "SIGTERM ended `Trainer.test`; it arrived on algo-1, rank 0."


class Ranks:
    """Many ranks in one process, whose trainings do nothing but meet in a collective after each step boundary."""

    def __init__(self, number: int, batches: int, collectives: set[int], seed: int, hosts: int = 1) -> None:
        number, size, between = number * hosts, number, HashStore()
        self.agreements = []
        for host, here in enumerate([HashStore() for _ in range(hosts)]):
            firsts = Participants(between, host, range(0, number, size))
            for local_rank in range(size):
                rank = host * size + local_rank
                ranks = Participants(here, local_rank, range(host * size, (host + 1) * size))
                connect = None if hosts == 1 or local_rank else itertools.repeat(firsts).__next__
                self.agreements.append(StopAgreement(ranks, f"rank {rank}", connect=connect))
        self.batches = batches
        self.collectives = collectives
        self.random = random.Random(seed)  # noqa: S311 - no secret
        self.barrier = threading.Barrier(number)
        self.stopped: dict[int, int | str] = {}
        self.progress = [0] * number
        self.threads = [threading.Thread(target=self._train, args=(rank,)) for rank in range(number)]

    def _train(self, rank: int) -> None:
        pauses = [self.random.choice([0, 0, 0.001, 0.01]) for _ in range(self.batches)]
        for batch, pause in enumerate(pauses, start=1):
            self.progress[rank] = batch
            try:
                if self.agreements[rank].stop_here():
                    self.stopped[rank] = batch
                    return
                time.sleep(pause)
                if batch in self.collectives:
                    self.barrier.wait(20)
            except (TimeoutError, threading.BrokenBarrierError) as error:
                self.stopped[rank] = str(error)
                return
        self.stopped[rank] = "end"

    def run(self, *signals: tuple[int, int]) -> None:
        """Train to the end, and send SIGTERM to a rank each time that it is at a batch: (rank, batch)."""
        for thread in self.threads:
            thread.start()
        for rank, batch in sorted(signals, key=lambda signal: signal[1]):
            while self.progress[rank] < batch and self.threads[rank].is_alive():
                time.sleep(0.0005)
            self.agreements[rank].request()
        for thread in self.threads:
            thread.join(60)
        for agreement in reversed(self.agreements):  # rank 0 waits for the others
            agreement._leave()


@pytest.mark.parametrize("seed", range(200 if FULL else 12))
def test_many_ranks_stop_at_the_same_step_boundary_however_the_signals_arrive(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sigterm, "_INTERVAL", 0.02)
    chance = random.Random(seed)  # noqa: S311
    number, hosts = chance.choice([1, 2, 4, 7]), chance.choice([1, 2, 3])
    # Not each batch has a collective: with accumulated gradients, ranks run ahead of each other.
    collectives = set(chance.sample(range(1, 201), chance.choice([10, 50, 200])))
    ranks = Ranks(number, 200, collectives, seed, hosts)
    signals = [(chance.randrange(number * hosts), chance.randrange(1, 150)) for _ in range(chance.choice([1, 2, 5]))]
    ranks.run(*signals)
    assert len(set(ranks.stopped.values())) == 1, (signals, ranks.stopped)
    (where,) = set(ranks.stopped.values())
    assert where == "end" or (isinstance(where, int) and where >= min(batch for _, batch in signals))
    assert {agreement.origin for agreement in ranks.agreements} <= {f"rank {rank}" for rank, _ in signals}


def test_training_without_sigterm_passes_all_step_boundaries() -> None:
    ranks = Ranks(3, 50, {50}, 0)
    ranks.run()
    assert ranks.stopped == {0: "end", 1: "end", 2: "end"}


def test_sigterm_after_the_last_batch_lets_the_training_end_and_the_next_one_not_begin() -> None:
    alone = StopAgreement(Participants(HashStore(), 0, range(1)), "algo-1, rank 0")
    assert alone.stop_here() is None
    alone.request()
    alone._decided.wait(10)
    stop = alone.stop_here()
    alone._leave()
    assert stop is not None
    assert stop.boundary == 2


def test_rank_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sigterm, "_PATIENCE", 0.5)
    lone = StopAgreement(Participants(HashStore(), 0, range(2)), "algo-1, rank 0")
    lone.request()
    while not lone._asked:
        time.sleep(0.01)
    why = r"algo-1, rank 0 has waited \d s, the time limit, for an answer of rank 1\. No"
    with pytest.raises(TimeoutError, match=rf"SIGTERM arrived on algo-1, rank 0, .*: {why}"):
        lone.stop_here()
    lone._leave()


def test_forked_process_is_none_of_the_ranks() -> None:
    alone = StopAgreement(Participants(HashStore(), 0, range(1)), "algo-1, rank 0")
    pid = os.fork()
    if pid == 0:
        os._exit(17 if alone.request() else 0)
    assert os.waitpid(pid, 0)[1] == 0
    assert not alone.origin
    alone._leave()
    assert not alone.request()
