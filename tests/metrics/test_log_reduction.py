"""Reductions of logged metrics: on real groups of one, two and four processes, compared with stock Lightning's."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy

from lightning_sagemaker.metrics.log_reduction import PendingReductions
from lightning_sagemaker.smddp.collectives import reduce_in_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = Path(__file__).parent
TRAINERS = [name for name in ("lightning.pytorch", "pytorch_lightning") if importlib.util.find_spec(name.split(".")[0])]
SITUATIONS = [f"{kind}, read by {reader}" for kind in ("manual", "automatic") for reader in ("none", "rank 0", "all")]

JOB = {"TRAINING_JOB_NAME": "job", "SM_RESOURCE_CONFIG": '{"current_host": "algo-1", "hosts": ["algo-1"]}'}
STOCK = ("--env", "LIGHTNING_SAGEMAKER_DISABLE=log_reduction")

Sent = list[tuple[tuple[int, ...], bool]]


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sent]:
    """What was sent over a real group of one process: shapes, and whether sending waited."""
    found: Sent = []
    all_reduce = dist.all_reduce

    def seen(tensor: torch.Tensor, **kwargs: Any) -> Any:
        found.append((tuple(tensor.shape), kwargs["async_op"]))
        return all_reduce(tensor, **kwargs)

    monkeypatch.setattr(dist, "all_reduce", seen)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield found
    dist.destroy_process_group()


def test_what_is_logged_is_sent_at_once_and_anything_else_also_waited_for(sent: Sent) -> None:
    pending, tensors = PendingReductions(reduce_in_place), [torch.tensor(float(number)) for number in range(3)]
    for tensor in tensors:
        with pending:
            assert pending.reduce(tensor) is tensor
    assert sent == [((), True)] * 3
    pending.wait()
    pending.reduce(torch.ones(2))
    with pending:
        pending.reduce(torch.tensor(1.0, requires_grad=True) * 2, reduce_op="sum")
        pending.reduce(torch.ones(1).expand(3))
    assert sent[3:] == [((2,), False), ((), False), ((3,), False)]
    assert [float(tensor) for tensor in tensors] == [0.0, 1.0, 2.0]


@pytest.mark.usefixtures("sent")
def test_what_is_copied_or_pickled_has_nothing_to_wait_for_and_takes_the_strategy_along_as_in_stock() -> None:
    pending = PendingReductions(DDPStrategy().reduce)
    with pending:
        pending.reduce(torch.tensor(1.0))
    # Lightning keeps this function with each metric.
    reduce: Any
    for reduce in (copy.deepcopy(pending.reduce), pickle.loads(pickle.dumps(pending.reduce))):
        assert not pending._sent
        assert not reduce.__self__._sent
        assert type(reduce.__self__.strategy_reduce.__self__) is DDPStrategy


@pytest.mark.usefixtures("sent")
def test_a_failed_reduction_is_an_error_once_and_its_value_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    pending, value = PendingReductions(DDPStrategy().reduce), torch.tensor(1.0)

    class Lost:
        def wait(self) -> None:
            raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(dist, "all_reduce", lambda *_, **__: Lost())
    with torch.inference_mode(), pending:
        pending.reduce(torch.tensor(2.0))
        pending.reduce(value)
    with pytest.raises(RuntimeError, match="closed by peer"):
        pending.wait()
    pending.wait_quietly()
    pending.wait()
    assert value.isnan()


@pytest.mark.parametrize("operation", ["mean", "sum", "max", None, dist.ReduceOp.MIN])
@pytest.mark.usefixtures("sent")
def test_every_kind_of_tensor_is_reduced(operation: Any) -> None:
    with torch.inference_mode():
        made_in_inference_mode = torch.tensor(3.0)
    for tensor in (
        torch.empty(0),
        torch.arange(8.0)[::2],
        torch.arange(6.0).reshape(2, 3).t(),
        torch.ones(1, dtype=torch.float64).expand(2, 3),
        torch.tensor([1, 2]),
        made_in_inference_mode,
    ):
        expected = tensor.clone()
        assert torch.equal(reduce_in_place(tensor, None, operation), expected)
        assert torch.equal(tensor, expected)
    if operation in ("mean", "sum"):
        sparse = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.tensor([2.0]), (3,), check_invariants=True)
        assert reduce_in_place(sparse, None, operation).to_dense().tolist() == [0.0, 2.0, 0.0]
        assert reduce_in_place(torch.tensor([1j]), None, operation).tolist() == [1j]


def test_without_a_process_group_nothing_is_reduced() -> None:
    tensor = torch.tensor(3.0)
    with PendingReductions(DDPStrategy().reduce) as pending:
        assert pending.reduce(tensor) is tensor
    assert float(tensor) == 3.0


@pytest.mark.parametrize("package", TRAINERS)
@pytest.mark.parametrize(("job", "strategy"), [("", "smddp"), ("", "ddp"), ("job", "ddp")])
def test_a_trainer_sends_each_of_twenty_metrics_without_waiting(
    package: str, job: str, strategy: str, tmp_path: Path
) -> None:
    program = FOLDER / "log_twenty_metrics.py"
    done = subprocess.run(
        [sys.executable, program, package, strategy, tmp_path / "store"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | (JOB if job else {}),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[[], bool(job) or strategy == "smddp"]] * 80


@pytest.mark.parametrize("package", TRAINERS)
def test_in_a_job_logged_values_are_sent_without_waiting_by_every_distributed_strategy(
    package: str, tmp_path: Path
) -> None:
    """FSDP trains on no CPU, and DeepSpeed is not installed: what they have of it is asked here."""
    code = f"""
import torch, torch.distributed as dist
import {package}.strategies as strategies
from {package}.trainer.connectors.logger_connector.result import _ResultCollection

dist.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=0, world_size=1)
all_reduce, waits = dist.all_reduce, []
dist.all_reduce = lambda *args, **kwargs: (waits.append(not kwargs["async_op"]), all_reduce(*args, **kwargs))[1]
names = ["DDPStrategy", "FSDPStrategy", "ModelParallelStrategy"]
for kind in [getattr(strategies, name) for name in names if hasattr(strategies, name)]:
    results, strategy = _ResultCollection(training=True), kind()
    options = dict(on_step=True, on_epoch=False, sync_dist_fn=strategy.reduce)
    results.log("training_step", "reduced", torch.tensor(3.0), sync_dist=True, **options)
    results.log("training_step", "local", torch.tensor(4.0), sync_dist=False, **options)
    assert {{name: value.item() for name, value in results.metrics(True)["log"].items()}} == dict(reduced=3, local=4)
    strategy.reduce(torch.tensor(1.0))
    assert waits == [False, True], waits
    waits.clear()
classes = (value for value in vars(strategies).values() if isinstance(value, type))
print(*sorted(c.__name__ for c in classes if hasattr(c, "reduce_that_can_wait") and c.reduce_that_can_wait is c.reduce))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | JOB,
    )
    assert done.returncode == 0, done.stderr
    lightning = version(package.partition(".")[0].replace("_", "-"))
    since_2_4 = ["ModelParallelStrategy"] if tuple(map(int, lightning.split(".")[:2])) >= (2, 4) else []
    assert done.stdout.split() == ["DDPStrategy", "DeepSpeedStrategy", "FSDPStrategy", *since_2_4]


def simulate(*arguments: object, processes: int, launcher: str) -> subprocess.CompletedProcess[str]:
    command = (
        *(Path(sys.executable).with_name("lightning-sagemaker"), "simulate", "--verbose", "--hosts", 1),
        *("--processes-per-host", processes, "--distribution", launcher, *arguments),
    )
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Any]]:
    """What the ranks of a job wrote down; each job runs once."""
    done: dict[tuple[Any, ...], list[Any]] = {}

    def run(processes: int, launcher: str, *strategies: str, options: tuple[str, ...] = ()) -> list[Any]:
        key = (processes, launcher, *strategies, *options)
        if key not in done:
            out = tmp_path_factory.mktemp("out")
            script = (*options, FOLDER / "log_and_read.py", "--", TRAINERS[0], out, *strategies)
            job = simulate(*script, processes=processes, launcher=launcher)
            assert job.returncode == 0, job.stdout + job.stderr
            done[key] = [json.loads((out / f"{rank}.json").read_text()) for rank in range(processes)]
        return done[key]

    return run


@pytest.mark.xdist_group("logged metrics")  # the jobs are shared
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize(("backend", "strategy"), [("gloo", "ddp"), ("gloo", "smddp"), ("smddp", "smddp")])
def test_whoever_reads_values_and_weights_are_stocks_to_the_last_bit(
    ranks: Any, backend: str, strategy: str, processes: int
) -> None:
    stock = ranks(processes, "torch_distributed", "ddp", options=STOCK)
    ours = ranks(processes, "torch_distributed" if backend == "gloo" else "smdistributed", strategy)
    for rank, (job, expected) in enumerate(zip(ours, stock, strict=True)):
        assert job["backend"] == backend
        found, reference = job["found"][strategy], expected["found"]["ddp"]
        for situation in SITUATIONS:
            assert len(reference[situation]["fitted"]) > 20
            reads = situation.endswith("all") or (situation.endswith("0") and rank == 0)
            assert bool(reference[situation]["read"]) == reads
            assert found[situation] == reference[situation], situation
        assert found["failed"] == reference["failed"]
        assert found["failed"]["read"]
        assert found["own"] == {"step mean": 42}
    weights = {json.dumps(job["found"][strategy][situation]["weights"]) for job in ours for situation in SITUATIONS}
    assert len(weights) == 1


def test_a_rank_that_fails_between_its_logs_ends_the_job() -> None:
    job = simulate(FOLDER / "fail_between_logs.py", "--", TRAINERS[0], processes=2, launcher="torch_distributed")
    assert job.returncode not in (0, None), job.stdout
    assert "ArithmeticError: between two logs" in job.stdout + job.stderr
