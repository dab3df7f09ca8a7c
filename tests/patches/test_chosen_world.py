"""A cluster environment of the script's own with a wrong world: an error or a line; a right one: not a word."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker import messages

from .connectors import DISTRIBUTIONS, LAUNCHERS, LOG, Distribution
from .connectors import clean as clean  # noqa: PLC0414 - fixtures
from .connectors import distribution as distribution  # noqa: PLC0414
from .connectors import job as job  # noqa: PLC0414
from .connectors import make as make  # noqa: PLC0414
from .connectors import part as part  # noqa: PLC0414

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Job = Callable[..., None]
    Make = Callable[..., Any]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was said, at level WARNING or above, since the last question."""
    monkeypatch.setattr(messages, "_said", set())
    caplog.set_level(logging.INFO, logger=LOG.name)

    def lines() -> list[str]:
        said = [one.getMessage() for one in caplog.records if one.name == LOG.name and one.levelno >= logging.WARNING]
        caplog.clear()
        return said

    return lines


@pytest.fixture
def lightning_environment(distribution: Distribution) -> Any:
    return distribution.get("fabric", "plugins.environments.LightningEnvironment")


@pytest.fixture
def glue(distribution: Distribution, part: str, lightning_environment: Any) -> Callable[..., Any]:
    """AWS's recipe: a strategy with an environment that asks the launcher's variables."""

    def glue(size: Any = lambda: int(os.environ["WORLD_SIZE"]), strategy: str = "DDPStrategy") -> Any:
        environment = lightning_environment()
        environment.world_size = size
        environment.global_rank = lambda: int(os.environ.get("RANK", "0"))
        return distribution.get(part, f"strategies.{strategy}")(cluster_environment=environment)

    return glue


# --- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", ["smddprun", "torchrun", "custom"])
def test_the_length_of_a_string_as_num_nodes_is_an_error_that_says_so(
    make: Make, job: Job, glue: Callable[..., Any], launcher: str
) -> None:
    job(launcher, hosts=1)
    with pytest.raises(
        ValueError,
        match=r"You set `num_nodes=12` and `devices` to 2 device\(s\), 24 process.*LightningEnvironment, but"
        r" the environment's `world_size\(\)` is 2:.*HINT: `num_nodes` counts hosts, 1 here;"
        r' len\(os\.environ\["SM_HOSTS"\]\) is the length of a string.*LIGHTNING_SAGEMAKER_DISABLE=world_check',
    ) as caught:
        make(strategy=glue(), accelerator="cpu", devices=2, num_nodes=len(os.environ["SM_HOSTS"] + "  "))
    assert len(str(caught.value)) < 1024


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_world_larger_than_the_launchers_is_an_error(
    make: Make, job: Job, lightning_environment: Any, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(launcher)
    monkeypatch.setenv("LOCAL_RANK", "0")  # mpirun sets none, and then Lightning starts processes
    kind = "mpirun" if launcher == "smddprun" else launcher
    with pytest.raises(ValueError, match=rf"6 process.*, but {kind} started 4 process\(es\): ranks would wait.*HINT: "):
        make(plugins=[lightning_environment()], accelerator="cpu", devices=3, num_nodes=2)


@pytest.mark.parametrize("devices", [1, 2])
def test_more_hosts_than_the_job_has_is_an_error_where_lightning_starts_the_processes(
    make: Make, job: Job, lightning_environment: Any, devices: int
) -> None:
    job("none", gpus=2)
    with pytest.raises(ValueError, match=r"`num_nodes=3`.*, but the SageMaker job has 2 host\(s\): .*HINT: "):
        make(plugins=[lightning_environment()], accelerator="cpu", devices=devices, num_nodes=3)


def test_a_world_of_one_beside_several_devices_is_an_error(make: Make, job: Job, glue: Callable[..., Any]) -> None:
    job("torchrun", hosts=1)
    with pytest.raises(ValueError, match=r"the environment's `world_size\(\)` is 1.*never be seen"):
        make(strategy=glue(lambda: 1), accelerator="cpu", devices=2)


# --- what may be meant -----------------------------------------------------------------------------------------------


def test_a_world_smaller_than_the_launchers_is_one_line_on_rank_zero(
    make: Make, job: Job, lightning_environment: Any, lines: Callable[[], list[str]]
) -> None:
    job("torchrun", rank=3)
    make(plugins=[lightning_environment()], accelerator="cpu", devices=2)
    assert lines() == []
    job("torchrun")
    for _ in range(2):
        make(plugins=[lightning_environment()], accelerator="cpu", devices=2)
    (line,) = lines()
    assert line.startswith("You set `num_nodes=1` and `devices` to 2 device(s), 2 process(es), beside the chosen")
    assert "torchrun started 4 process(es): unless this is meant, hosts or ranks train apart" in line
    assert "HINT: " in line


def test_fewer_than_the_environment_has_is_a_line_since_the_script_may_sample_itself(
    make: Make, job: Job, glue: Callable[..., Any], lines: Callable[[], list[str]]
) -> None:
    job("torchrun")
    strategy = make(strategy=glue(), accelerator="cpu", devices=2).strategy
    assert strategy.world_size == 4
    (line,) = lines()
    assert "the environment's `world_size()` is 4: unless this is meant" in line


def test_where_lightning_puts_no_sampler_in_it_is_a_line(
    distribution: Distribution, job: Job, glue: Callable[..., Any], part: str, lines: Callable[[], list[str]]
) -> None:
    if part == "fabric":
        pytest.skip("Fabric is told later, loader by loader")
    job("torchrun", hosts=1)
    distribution.get("pytorch", "Trainer")(
        strategy=glue(), accelerator="cpu", devices=2, num_nodes=10, use_distributed_sampler=False, logger=False
    )
    assert len(lines()) == 1


# --- the script's word wins ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", ["smddprun", "torchrun", "custom"])
@pytest.mark.parametrize(("devices", "num_nodes"), [(2, 2), (1, 4), (4, 1)])
def test_a_right_world_is_silent_however_it_is_divided(
    *,
    make: Make,
    job: Job,
    glue: Callable[..., Any],
    lines: Callable[[], list[str]],
    launcher: str,
    devices: int,
    num_nodes: int,
) -> None:
    job(launcher, rank=3)
    strategy = make(strategy=glue(), accelerator="cpu", devices=devices, num_nodes=num_nodes).strategy
    assert (strategy.world_size, strategy.global_rank, strategy.num_nodes) == (4, 3, num_nodes)
    assert strategy.distributed_sampler_kwargs == {"num_replicas": 4, "rank": 3}
    assert lines() == []


@pytest.mark.parametrize("launcher", [*LAUNCHERS, "none", "lightning"])
def test_a_trainer_that_runs_alone_is_always_fine(
    *,
    make: Make,
    job: Job,
    glue: Callable[..., Any],
    lightning_environment: Any,
    lines: Callable[[], list[str]],
    launcher: str,
) -> None:
    job(launcher)
    make(plugins=[lightning_environment()], accelerator="cpu", devices=1, num_nodes=1)
    make(strategy=glue(lambda: 4), accelerator="cpu", devices=1, num_nodes=1)
    assert lines() == []


@pytest.mark.parametrize("launcher", ["none", "lightning"])
def test_an_environment_that_learns_its_world_later_is_not_asked_before(
    make: Make, job: Job, glue: Callable[..., Any], lines: Callable[[], list[str]], launcher: str
) -> None:
    job(launcher, gpus=2)
    make(strategy=glue(lambda: int(os.environ.get("WORLD_SIZE", "0"))), accelerator="cpu", devices=2, num_nodes=2)
    assert lines() == []


def test_a_launcher_of_one_process_per_host_leaves_the_others_to_lightning(
    make: Make, job: Job, lightning_environment: Any, lines: Callable[[], list[str]]
) -> None:
    job("mpirun", per_host=1)
    make(plugins=[lightning_environment()], accelerator="cpu", devices=8, num_nodes=2)
    assert lines() == []


def test_spawned_processes_are_no_ranks_of_the_launchers(
    make: Make, job: Job, lightning_environment: Any, lines: Callable[[], list[str]]
) -> None:
    job("torchrun", hosts=1)
    make(strategy="ddp_spawn", plugins=[lightning_environment()], accelerator="cpu", devices=3)
    assert lines() == []


def test_a_strategy_that_divides_the_data_itself_is_asked_how(
    *,
    make: Make,
    distribution: Distribution,
    part: str,
    job: Job,
    lightning_environment: Any,
    lines: Callable[[], list[str]],
) -> None:
    class Ray(distribution.get(part, "strategies.DDPStrategy")):  # type: ignore[misc]
        """`num_nodes` is not given to such a Trainer: the environment knows it all."""

        @property
        def distributed_sampler_kwargs(self) -> dict[str, int]:
            return {"num_replicas": self.world_size, "rank": self.global_rank}

    class ModelParallel(distribution.get(part, "strategies.DDPStrategy")):  # type: ignore[misc]
        """NeMo's: two processes hold one model, and see the same data."""

        distributed_sampler_kwargs = {"num_replicas": 2, "rank": 0}  # noqa: RUF012

    job("torchrun")
    for strategy, num_nodes in ((Ray, 1), (Ray, 10), (ModelParallel, 2)):
        environment = lightning_environment()
        environment.world_size = lambda: 4
        made = make(
            strategy=strategy(cluster_environment=environment), accelerator="cpu", devices=2, num_nodes=num_nodes
        )
        assert made.cluster_environment is environment
    assert lines() == []


# --- nothing of ours raises where something cannot answer ------------------------------------------------------------


def test_an_environment_that_raises_is_left_alone(
    make: Make, job: Job, glue: Callable[..., Any], lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job("torchrun", hosts=1)
    monkeypatch.delenv("WORLD_SIZE")  # as `LightningEnvironment.teardown` does, after the first fit
    make(strategy=glue(), accelerator="cpu", devices=2, num_nodes=10)
    make(strategy=glue(lambda: "many"), accelerator="cpu", devices=2, num_nodes=10)
    assert lines() == []


def damage(folder: Path) -> None:
    (folder / "input" / "config" / "resourceconfig.json").write_text('{"current_host": "algo-1", "hos')


def test_a_job_that_cannot_be_read_is_no_error_beside_a_chosen_environment(
    *,
    make: Make,
    job: Job,
    glue: Callable[..., Any],
    lightning_environment: Any,
    tmp_path: Path,
    lines: Callable[[], list[str]],
) -> None:
    job("torchrun", hosts=1)
    damage(tmp_path)
    make(strategy=glue(), accelerator="cpu", devices=2, num_nodes=10)
    make(plugins=[lightning_environment()])
    assert lines() == []


def test_an_environment_of_the_other_distribution_is_a_choice_too(
    make: Make, distribution: Distribution, part: str, job: Job, tmp_path: Path
) -> None:
    """Lightning lets a strategy carry any object; the job is not read then, nor are its hosts and devices taken."""
    names = [name for name in DISTRIBUTIONS if importlib.util.find_spec(name) is not None]
    if len(names) == 1:
        pytest.skip("one distribution is installed")
    other = next(each for name, each in DISTRIBUTIONS.items() if each is not distribution and name in names)
    foreign = other.get("fabric", "plugins.environments.LightningEnvironment")()
    job("torchrun")
    damage(tmp_path)
    strategy = make(strategy=distribution.get(part, "strategies.DDPStrategy")(cluster_environment=foreign)).strategy
    assert strategy.cluster_environment is foreign
    assert (strategy.num_nodes, strategy.num_processes) == (1, 1)


@pytest.mark.parametrize("off", ["world_check", "environment,world_check"])
def test_it_can_be_switched_off(
    make: Make, job: Job, glue: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, off: str
) -> None:
    job("torchrun", hosts=1)
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_DISABLE", off)
    assert make(strategy=glue(), accelerator="cpu", devices=2, num_nodes=10).strategy.num_nodes == 10


def test_outside_training_jobs_nothing_is_checked(
    make: Make, job: Job, glue: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job("torchrun", hosts=1)
    monkeypatch.delenv("TRAINING_JOB_NAME")
    assert make(strategy=glue(), accelerator="cpu", devices=2, num_nodes=10).strategy.num_nodes == 10
    monkeypatch.setenv("TRAINING_JOB_NAME", "a mark alone")
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", "/nowhere")
    assert make(strategy=glue(), accelerator="cpu", devices=2, num_nodes=10).strategy.num_nodes == 10


# --- glue of docs/moving.md ------------------------------------------------------------------------------------------


def test_glue_for_num_nodes_without_an_environment(make: Make, job: Job) -> None:
    job("torchrun")
    assert make(accelerator="cpu", num_nodes=len(json.loads(os.environ["SM_HOSTS"]))).strategy.world_size == 4
    with pytest.raises(ValueError, match=r"You set `num_nodes=20`, but 2 host\(s\)"):
        make(accelerator="cpu", num_nodes=len(os.environ["SM_HOSTS"]))


def test_glue_that_copies_ranks_of_open_mpi_is_accepted(make: Make, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job("mpirun", rank=3)
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, os.environ[f"OMPI_COMM_WORLD_{name}"])
    monkeypatch.setenv("WORLD_SIZE", os.environ["OMPI_COMM_WORLD_SIZE"])
    assert make(accelerator="cpu").strategy.global_rank == 3


def test_torchelastics_environment_wins_and_its_world_is_checked(
    make: Make, distribution: Distribution, job: Job, lines: Callable[[], list[str]]
) -> None:
    torchelastic = distribution.get("fabric", "plugins.environments.TorchElasticEnvironment")
    job("torchrun", rank=3)
    strategy = make(plugins=[torchelastic()], accelerator="cpu", devices=2, num_nodes=2).strategy
    assert type(strategy.cluster_environment) is torchelastic
    assert (strategy.global_rank, lines()) == (3, [])
    with pytest.raises(ValueError, match=r"`num_nodes=3`.*TorchElasticEnvironment, but the environment's"):
        make(plugins=[torchelastic()], accelerator="cpu", devices=2, num_nodes=3)
