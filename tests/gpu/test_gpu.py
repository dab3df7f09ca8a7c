"""What one GPU can show: `make gpu`. Where there is none, what a CPU can do of it is done there, over gloo."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import simulate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Figure, Job, Ranks

    Seen = Callable[[str], Ranks]

pytestmark = pytest.mark.xdist_group("gpu")  # the jobs are shared, and so is the GPU

# Trainings of a world of one, each with the one that it must equal.
ALONE = {
    "train ddp": "train stock",
    "train ddp_find_unused_parameters_true": "train stock",
    "train smddp": "train stock",
    "train smddp_find_unused_parameters_true": "train stock",
    "train smddp_find_unused_parameters_false": "train stock",
    "train smddp_bucket_views": "train stock",
    "train fsdp2": "train stock",
    "train fsdp2_sharded": "train stock",
    "train smddp bf16-mixed": "train stock bf16-mixed",
    "train fsdp2 bf16-true": "train stock bf16-true",
}
# Lightning's FSDP and fp16 want a GPU.
ALONE_ON_GPU = {
    "train fsdp": "train stock",
    "train fsdp_sharded": "train stock",
    "train smddp_fsdp": "train stock",
    "train smddp_fsdp_sharded": "train stock",
    "train smddp 16-mixed": "train stock 16-mixed",
    "train smddp_fsdp 16-mixed": "train fsdp 16-mixed",
    "train smddp_fsdp bf16-mixed": "train fsdp bf16-mixed",
}
FABRIC = {"train_with_fabric smddp": "train_with_fabric ddp"}
FABRIC_ON_GPU = {
    "train_with_fabric fsdp": "train_with_fabric ddp",
    "train_with_fabric smddp_fsdp": "train_with_fabric ddp",
}
FAKE_SMDDP = {"train smddp": "train stock"}
FAKE_SMDDP_ON_GPU = {"train smddp_fsdp": "train fsdp"}
SHARED = {"train smddp": "train stock"}
SHARED_ON_GPU = {"train smddp 32-true sync_batchnorm": "train stock 32-true sync_batchnorm"}  # torch's wants a GPU
MEMORY = ("ddp", "smddp", "smddp_bucket_views")
PARAMETERS = 8 * 4096 * 4096 * 4  # bytes


def checks(pairs: dict[str, str], on_gpu: dict[str, str]) -> pytest.MarkDecorator:
    """Parametrize over pairs of trainings."""
    marked = [pytest.param(*pair, marks=pytest.mark.needs_gpu, id=pair[0]) for pair in on_gpu.items()]
    return pytest.mark.parametrize(
        ("check", "reference"), [*(pytest.param(*pair, id=pair[0]) for pair in pairs.items()), *marked]
    )


def named(*tables: dict[str, str]) -> list[str]:
    """All trainings of some tables, each once."""
    return list(dict.fromkeys(name for table in tables for pair in table.items() for name in reversed(pair)))


@pytest.fixture(scope="module")
def alone(job: Job, gpu: str | None) -> Seen:
    """One process, with what Lightning takes for the device: NCCL or gloo."""
    logging = f"measure_logging {4 if gpu else 2} {100 if gpu else 20}"
    more = ["train stock 16-mixed", *(f"measure_memory {strategy}" for strategy in MEMORY)] if gpu else []
    trainings = named(ALONE, FABRIC, *((ALONE_ON_GPU, FABRIC_ON_GPU) if gpu else ()))
    seen = job(["describe", *trainings, *more, logging])
    return lambda check: seen(logging if check == "logging" else check)


@pytest.fixture(scope="module")
def fake_smddp(job: Job, gpu: str | None) -> Seen:
    """One process, in an image with the fake SMDDP: it plays over NCCL on a GPU."""
    return job(named(FAKE_SMDDP, FAKE_SMDDP_ON_GPU if gpu else {}), "--smddp")


@pytest.fixture(scope="module")
def shared(job: Job, gpu: str | None) -> Seen:
    """Two hosts that have the same GPU, over gloo with tensors on it: NCCL refuses two ranks on one."""
    return job(named(SHARED, FABRIC, SHARED_ON_GPU if gpu else {}), "--hosts", "2", group="gloo")


def equal(ours: Any, stock: Any) -> None:
    """Whether a training did what stock's did, on the same device."""
    assert ours["losses"] == pytest.approx(stock["losses"], rel=1e-4)
    assert len(set(ours["losses"])) == len(ours["losses"]) == 8
    assert ours["logged"] == pytest.approx(stock["logged"], rel=1e-4)
    assert ours["read"] == pytest.approx(stock["read"], rel=1e-4)
    assert ours["asked"] == stock["asked"]
    assert ours["device"] == stock["device"] == ours["asked"]["device"]
    assert ours["continued at"] == stock["continued at"] == 4


@checks(ALONE, ALONE_ON_GPU)
def test_a_world_of_one_trains_logs_and_continues_as_stock(
    alone: Seen, gpu: str | None, check: str, reference: str
) -> None:
    (ours,), (stock,) = alone(check), alone(reference)
    equal(ours, stock)
    assert ours["backend"] == ("nccl" if gpu else "gloo")
    assert ours["device"] == ("cuda" if gpu else "cpu")
    assert ours["sharded"] == check.endswith("_sharded")
    assert ours["strategy"].startswith("SMDDP") == ("smddp" in check)


@checks(FABRIC, FABRIC_ON_GPU)
def test_fabric_trains_a_world_of_one_as_stock(alone: Seen, gpu: str | None, check: str, reference: str) -> None:
    (ours,), (stock,) = alone(check), alone(reference)
    assert ours["losses"] == pytest.approx(stock["losses"], rel=1e-4)
    assert ours["losses"] == pytest.approx(ours["means"])
    assert [ours["gathered"], ours["broadcast"]] == [[0.0], {"rank": 0}]
    assert [ours["backend"], ours["device"]] == (["nccl", "cuda"] if gpu else ["gloo", "cpu"])
    assert ours["strategy"].startswith("SMDDP") == ("smddp" in check)


@checks(FABRIC, {})
def test_fabric_trains_two_processes_on_one_device_over_gloo_as_stock(
    shared: Seen, gpu: str | None, check: str, reference: str
) -> None:
    both = shared(check)
    for ours, stock in zip(both, shared(reference), strict=True):
        assert ours["losses"] == pytest.approx(stock["losses"], rel=1e-4)
        means = [sum(pair) / 2 for pair in zip(*(each["losses"] for each in both), strict=True)]
        assert ours["means"] == pytest.approx(means, rel=1e-5)
        assert [ours["gathered"], ours["broadcast"]] == [[0.0, 1.0], {"rank": 1}]
        assert [ours["backend"], ours["device"]] == ["gloo", "cuda" if gpu else "cpu"]


@checks(FAKE_SMDDP, FAKE_SMDDP_ON_GPU)
def test_over_the_fake_smddp_a_training_is_stocks_without_it(
    fake_smddp: Seen, gpu: str | None, check: str, reference: str
) -> None:
    (ours,), (stock,) = fake_smddp(check), fake_smddp(reference)
    equal(ours, stock)
    assert [ours["backend"], stock["backend"]] == ["smddp", "nccl" if gpu else "gloo"]
    assert ours["device"] == ("cuda" if gpu else "cpu")


@checks(SHARED, SHARED_ON_GPU)
def test_two_processes_on_one_device_train_over_gloo_as_stock(
    shared: Seen, gpu: str | None, check: str, reference: str
) -> None:
    both = shared(check)
    assert len(both) == 2
    for rank, (ours, stock) in enumerate(zip(both, shared(reference), strict=True)):
        equal(ours, stock)
        assert [ours["backend"], ours["device"]] == ["gloo", "cuda" if gpu else "cpu"]
        assert ours["asked"]["broadcast"] == {"rank": 1, "words": ["of", 1]}
        assert [ours["asked"]["all"], ours["asked"]["any"]] == [False, True]
        assert ours["asked"]["gathered"] == [1.0, 2.0]
        assert ours["asked"]["gradient"] == [2.0 * (rank + 1)]
    assert both[0]["losses"] != both[1]["losses"]  # each has data of its own
    assert both[0]["logged"]["step mean"] == both[1]["logged"]["step mean"]


@pytest.mark.needs_gpu
def test_more_processes_than_visible_devices_are_an_error_at_construction(gpu: str, tmp_path: Path) -> None:
    done = simulate(gpu, "construct ddp", tmp_path, "--processes-per-host", "2")
    told = "".join(path.read_text("utf-8") for path in tmp_path.glob("*.jsonl"))
    assert "started 2 processes on this host, but torch sees 1 device(s)" in told, done.stdout + done.stderr
    assert "look at CUDA_VISIBLE_DEVICES" in told


@pytest.mark.needs_gpu
def test_bucket_views_save_one_copy_of_the_gradients(alone: Seen, figure: Figure) -> None:
    found = {strategy: alone(f"measure_memory {strategy}")[0] for strategy in MEMORY}
    for strategy, memory in found.items():
        assert memory["parameters"] == PARAMETERS
        figure(
            f"peak memory of a step, {strategy}, by the size of the parameters", f"{memory['peak'] / PARAMETERS:.3f}"
        )
    assert found["smddp"]["peak"] == pytest.approx(found["ddp"]["peak"], abs=0.1 * PARAMETERS)
    saved = found["smddp"]["peak"] - found["smddp_bucket_views"]["peak"]
    assert saved == pytest.approx(PARAMETERS, abs=0.15 * PARAMETERS)


def test_what_a_logged_metric_costs_is_measured_beside_stock(alone: Seen, figure: Figure) -> None:
    (seconds,), (machine,) = alone("logging"), alone("describe")
    where = ", ".join(f"{name} {value}" for name, value in machine.items())
    for strategy, each in seconds.items():
        of_fits = f"{min(each) * 1e6:.0f} to {max(each) * 1e6:.0f} in {len(each)} fits"
        figure(f"one of 20 metrics, {strategy}, µs ({where})", f"{median(each) * 1e6:.0f} ({of_fits})")
        assert median(each) > 0
    for strategy in ("ddp", "smddp"):
        figure(f"the same, ratio of {strategy} to stock", f"{median(seconds[strategy]) / median(seconds['stock']):.2f}")


@pytest.mark.needs_gpu  # a CPU that others use too does not tell
def test_a_logged_metric_costs_less_than_in_stock(alone: Seen) -> None:
    (seconds,) = alone("logging")
    assert max(median(seconds["ddp"]), median(seconds["smddp"])) < median(seconds["stock"])
