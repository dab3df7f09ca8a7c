"""What Trainer and Fabric of both distributions become in a SageMaker training job. No process group is made here."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker import SageMakerEnvironment, SageMakerJob, messages
from lightning_sagemaker.job import FOREIGN_RANK
from lightning_sagemaker.patches.environment import patch_connector

from .connectors import (
    DISTRIBUTIONS,
    LAUNCHERS,
    LOG,
    QUIET,
    Distribution,
    strategy_name,
)
from .connectors import clean as clean  # noqa: PLC0414 - fixtures
from .connectors import distribution as distribution  # noqa: PLC0414
from .connectors import job as job  # noqa: PLC0414
from .connectors import make as make  # noqa: PLC0414
from .connectors import part as part  # noqa: PLC0414
from .connectors import see_gpus as see_gpus  # noqa: PLC0414

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Job = Callable[..., None]
    Make = Callable[..., Any]

# --- the world -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_every_launcher_gives_its_world_to_the_strategy(make: Make, job: Job, launcher: str, rank: int) -> None:
    job(launcher, rank=rank)
    connector = make()
    strategy = connector.strategy
    assert type(connector.cluster_environment) is SageMakerEnvironment
    assert strategy.cluster_environment is connector.cluster_environment
    assert strategy_name(connector) == "DDPStrategy"
    assert (strategy.num_nodes, strategy.num_processes, strategy.world_size) == (2, 2, 4)
    assert (strategy.global_rank, strategy.node_rank, strategy.local_rank) == (rank, *divmod(rank, 2))
    assert strategy.distributed_sampler_kwargs == {"num_replicas": 4, "rank": rank}


@pytest.mark.parametrize("node_rank", [0, 1])
def test_without_a_launcher_the_first_process_of_a_host_gets_its_node_rank(
    make: Make, job: Job, node_rank: int
) -> None:
    job("none", rank=2 * node_rank, gpus=2)
    strategy = make().strategy
    assert type(strategy.cluster_environment) is SageMakerEnvironment
    assert (strategy.num_nodes, strategy.num_processes, strategy.world_size) == (2, 2, 4)
    assert (strategy.global_rank, strategy.node_rank, strategy.local_rank) == (2 * node_rank, node_rank, 0)
    assert strategy.distributed_sampler_kwargs == {"num_replicas": 4, "rank": 2 * node_rank}
    assert strategy.cluster_environment.creates_processes_externally is False


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_a_process_that_lightning_started_gets_its_ranks(make: Make, job: Job, rank: int) -> None:
    job("lightning", rank=rank, gpus=2)
    strategy = make().strategy
    assert (strategy.num_nodes, strategy.num_processes, strategy.world_size) == (2, 2, 4)
    assert (strategy.global_rank, strategy.node_rank, strategy.local_rank) == (rank, *divmod(rank, 2))
    assert strategy.cluster_environment.creates_processes_externally is True


@pytest.mark.parametrize("rank", [0, 7_999])
def test_a_thousand_hosts_are_a_world_as_two_are(make: Make, job: Job, rank: int) -> None:
    job("torchrun", hosts=1000, per_host=8, rank=rank)
    strategy = make().strategy
    assert (strategy.num_nodes, strategy.world_size, strategy.global_rank) == (1000, 8000, rank)


def test_processes_of_an_mpi_that_is_not_open_mpi_are_left_to_lightning(
    make: Make, distribution: Distribution, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPICH's mpiexec, as own images have it: here each process took itself for the first, and started the others."""
    job("none", hosts=1)
    module = sys.modules[type(make()).__module__]
    base = distribution.get("fabric", "plugins.environments.LightningEnvironment")
    mpi = type("MPI", (base,), {"detect": staticmethod(lambda: True)})
    monkeypatch.setattr(module, "MPIEnvironment", mpi)
    monkeypatch.setenv("PMI_SIZE", "2")
    assert type(make(devices=2, strategy="ddp").strategy.cluster_environment) is mpi


def test_trainer_and_fabric_report_the_world_themselves(distribution: Distribution, job: Job) -> None:
    job("torchrun", rank=3)
    for made in (distribution.get("pytorch", "Trainer")(**QUIET), distribution.get("fabric", "Fabric")()):
        assert (made.world_size, made.global_rank, made.node_rank, made.local_rank) == (4, 3, 1, 1)


@pytest.mark.parametrize("strategy", ["auto", "ddp", "DDP"])
def test_every_name_of_ddp_is_served(make: Make, job: Job, strategy: str) -> None:
    job("torchrun", rank=3)
    connector = make(strategy=strategy)
    assert strategy_name(connector) == "DDPStrategy"
    assert type(connector.strategy.cluster_environment) is SageMakerEnvironment
    assert connector.strategy.distributed_sampler_kwargs == {"num_replicas": 4, "rank": 3}


@pytest.mark.parametrize("answer", ["true", "false"])
def test_names_of_ddp_that_answer_its_question_are_served(distribution: Distribution, job: Job, answer: str) -> None:
    job("torchrun", rank=3)
    trainer = distribution.get("pytorch", "Trainer")(strategy=f"ddp_find_unused_parameters_{answer}", **QUIET)
    assert type(trainer.strategy.cluster_environment) is SageMakerEnvironment
    assert (trainer.num_nodes, trainer.world_size, trainer.global_rank) == (2, 4, 3)


def test_a_strategy_instance_without_an_environment_is_served(
    make: Make, distribution: Distribution, part: str, job: Job
) -> None:
    job("torchrun", rank=3)
    strategy = make(strategy=distribution.get(part, "strategies.DDPStrategy")()).strategy
    assert type(strategy.cluster_environment) is SageMakerEnvironment
    assert (strategy.num_nodes, strategy.world_size, strategy.global_rank) == (2, 4, 3)


@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_a_trainer_subclass_is_served(distribution: Distribution, job: Job, strategy: str) -> None:
    job("torchrun", rank=3)
    trainer = type("Mine", (distribution.get("pytorch", "Trainer"),), {})(strategy=strategy, **QUIET)
    assert type(trainer.strategy.cluster_environment) is SageMakerEnvironment
    assert (trainer.num_nodes, trainer.world_size, trainer.global_rank) == (2, 4, 3)


def test_a_trainer_subclass_with_a_constructor_of_its_own_is_served(distribution: Distribution, job: Job) -> None:
    job("torchrun", rank=3)
    base = distribution.get("pytorch", "Trainer")

    class Mine(base):  # type: ignore[misc,valid-type]
        def __init__(self, **arguments: Any) -> None:
            super().__init__(max_epochs=1, **arguments)

    trainer = Mine(**QUIET)
    assert type(trainer.strategy.cluster_environment) is SageMakerEnvironment
    assert (trainer.num_nodes, trainer.world_size, trainer.global_rank) == (2, 4, 3)


def test_the_trainer_of_lightning_cli_is_served(distribution: Distribution, job: Job) -> None:
    job("torchrun", rank=3)
    command_line = distribution.get("pytorch", "cli.LightningCLI")(
        distribution.get("pytorch", "demos.boring_classes.BoringModel"),
        run=False,
        args=[],
        save_config_callback=None,
        trainer_defaults=QUIET,
    )
    trainer = command_line.trainer
    assert type(trainer.strategy.cluster_environment) is SageMakerEnvironment
    assert (trainer.num_nodes, trainer.world_size, trainer.global_rank) == (2, 4, 3)


@pytest.mark.parametrize("launcher", [*LAUNCHERS, "none"])
def test_one_process_on_each_of_two_hosts_is_ddp(make: Make, job: Job, launcher: str) -> None:
    job(launcher, per_host=1, rank=1)
    connector = make()
    assert strategy_name(connector) == "DDPStrategy"
    assert connector.strategy.distributed_sampler_kwargs == {"num_replicas": 2, "rank": 1}


@pytest.mark.parametrize("launcher", [*LAUNCHERS, "none"])
def test_a_world_of_one_process_is_a_plain_run(make: Make, job: Job, launcher: str) -> None:
    job(launcher, hosts=1, per_host=1)
    connector = make()
    assert strategy_name(connector) == "SingleDeviceStrategy"
    assert connector.strategy.is_global_zero


def test_a_world_of_one_process_may_be_ddp_on_request(make: Make, job: Job) -> None:
    job("torchrun", hosts=1, per_host=1)
    assert make(strategy="ddp").strategy.distributed_sampler_kwargs == {"num_replicas": 1, "rank": 0}


def test_construction_leaves_the_environment_as_it_was(make: Make, job: Job) -> None:
    job("torchrun", rank=3)
    before = dict(os.environ)
    make()
    make(strategy="ddp")
    assert dict(os.environ) == before


def test_the_job_is_read_once_for_devices_and_environment(
    make: Make, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job("torchrun")
    read: list[SageMakerJob | None] = []
    detect = SageMakerJob.detect

    def counting() -> SageMakerJob | None:
        read.append(detect())
        return read[-1]

    monkeypatch.setattr(SageMakerJob, "detect", counting)
    assert make().cluster_environment.job is read[0]
    assert len(read) == 1


def test_a_connector_is_patched_once(distribution: Distribution) -> None:
    for path in (
        f"{distribution.fabric}.connector",
        f"{distribution.pytorch}.trainer.connectors.accelerator_connector",
    ):
        module = importlib.import_module(path)
        connector = getattr(module, "_AcceleratorConnector", None) or module._Connector
        before = dict(vars(connector))
        patch_connector(module)
        assert dict(vars(connector)) == before


@pytest.mark.parametrize("launcher", ["torchrun", "mpirun", "none"])
def test_a_second_one_in_the_same_process_is_as_the_first(make: Make, job: Job, launcher: str) -> None:
    job(launcher, rank=2, gpus=2)
    first, second = make().strategy, make().strategy
    assert first.cluster_environment is not second.cluster_environment
    assert (second.num_nodes, second.num_processes, second.world_size, second.global_rank) == (2, 2, 4, 2)


def test_one_after_the_launch_of_the_local_processes_is_as_the_one_before(
    make: Make, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job("none", rank=2, gpus=2)
    make()
    for name, value in {"LOCAL_RANK": "0", "NODE_RANK": "1", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)  # as Lightning's launcher leaves them in the process that started the others
    strategy = make().strategy
    assert (strategy.num_nodes, strategy.num_processes, strategy.world_size, strategy.global_rank) == (2, 2, 4, 2)
    assert strategy.cluster_environment.creates_processes_externally is True


@pytest.mark.parametrize(("hosts", "agents"), [(1, 2), (2, 4)])
def test_several_agents_of_torchrun_on_a_host_make_a_world_as_in_stock(
    make: Make, job: Job, caplog: pytest.LogCaptureFixture, hosts: int, agents: int
) -> None:
    messages._said.clear()
    job("torchrun", hosts=agents, rank=3)
    job("none", hosts=hosts)  # leaves the launcher's variables
    connector = make(accelerator="cpu", devices=2, num_nodes=agents, strategy="ddp")
    strategy = connector.strategy
    assert type(connector.cluster_environment).__name__ == "TorchElasticEnvironment"
    assert (strategy.num_nodes, strategy.world_size, strategy.global_rank) == (agents, 2 * agents, 3)
    assert "torchrun has several agents on a host of the SageMaker job" in caplog.text


@pytest.mark.parametrize("launcher", ["mpirun", "custom"])
def test_more_hosts_than_the_job_has_are_refused_where_nobody_has_met(make: Make, job: Job, launcher: str) -> None:
    job(launcher, hosts=2, rank=3)
    job("none", hosts=1)
    with pytest.raises(ValueError, match=r"2 host\(s\) .*, but 1 hosts of this SageMaker job"):
        make(accelerator="cpu", devices=2, num_nodes=2, strategy="ddp")


# --- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("devices", ["auto", 3, "3"])
def test_devices_on_cpu_are_the_processes_of_the_launcher(
    make: Make, job: Job, launcher: str, devices: int | str
) -> None:
    job(launcher, per_host=3)
    strategy = make(accelerator="cpu", devices=devices).strategy
    assert [device.type for device in strategy.parallel_devices] == ["cpu"] * 3


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda"])
def test_fewer_processes_than_gpus_use_as_many_gpus(
    make: Make, job: Job, see_gpus: Callable[[int], None], accelerator: str
) -> None:
    see_gpus(8)
    job("torchrun", per_host=4, rank=6)
    strategy = make(accelerator=accelerator).strategy
    assert [str(device) for device in strategy.parallel_devices] == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    assert str(strategy.root_device) == "cuda:2"
    assert strategy.world_size == 8


def test_fsdp_on_gpus_is_served(make: Make, job: Job, see_gpus: Callable[[int], None]) -> None:
    see_gpus(2)
    job("torchrun", rank=3)
    connector = make(strategy="fsdp")
    strategy = connector.strategy
    assert strategy_name(connector) == "FSDPStrategy"
    assert type(strategy.cluster_environment) is SageMakerEnvironment
    assert (strategy.num_nodes, strategy.world_size, strategy.global_rank) == (2, 4, 3)
    assert strategy.distributed_sampler_kwargs == {"num_replicas": 4, "rank": 3}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_more_processes_than_gpus_are_an_error_that_names_both(
    make: Make, job: Job, see_gpus: Callable[[int], None], launcher: str
) -> None:
    see_gpus(3)
    job(launcher, per_host=8)
    with pytest.raises(RuntimeError, match=r"started 8 processes on this host, but torch sees 3 device.*HINT: "):
        make()


@pytest.mark.parametrize("told", [0, 8])
def test_without_a_launcher_the_gpus_are_counted_by_lightning(
    make: Make, job: Job, see_gpus: Callable[[int], None], told: int
) -> None:
    see_gpus(4)
    job("none", gpus=told)
    strategy = make().strategy
    assert (strategy.num_processes, strategy.num_nodes, strategy.world_size) == (4, 2, 8)


@pytest.mark.parametrize("hosts", [1, 2])
def test_on_the_cpu_of_a_host_with_gpus_lightning_starts_one_process_as_in_stock(
    make: Make, job: Job, see_gpus: Callable[[int], None], hosts: int
) -> None:
    see_gpus(4)
    job("none", hosts=hosts, gpus=4)
    connector = make(accelerator="cpu")
    assert [device.type for device in connector._parallel_devices] == ["cpu"]
    assert getattr(connector.strategy, "world_size", 1) == hosts


def test_on_the_cpu_in_processes_that_were_started_for_gpus_all_of_them_train_over_a_group_that_carries_it(
    make: Make, job: Job, see_gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    see_gpus(4)
    job("lightning", hosts=2, per_host=4, rank=1, gpus=4)
    group = {"is_initialized": True, "get_world_size": 8, "get_rank": 1, "get_backend": "cpu:gloo,cuda:nccl"}
    for name, answer in group.items():
        monkeypatch.setattr(f"torch.distributed.{name}", lambda *_, answer=answer: answer)
    strategy = make(accelerator="cpu").strategy
    assert (strategy.num_processes, strategy.world_size) == (4, 8)


@pytest.mark.parametrize("launcher", ["torchrun", "mpirun", "none"])
@pytest.mark.parametrize("world", [(1, 4, "auto"), (2, 4, "auto"), (2, 1, 1)])
def test_on_the_cpu_after_a_fit_on_gpus_it_runs_alone_as_in_stock(
    make: Make, job: Job, monkeypatch: pytest.MonkeyPatch, launcher: str, world: tuple[int, int, int | str]
) -> None:
    hosts, per_host, devices = world
    job("lightning" if launcher == "none" else launcher, hosts=hosts, per_host=per_host, rank=1, gpus=per_host)
    group = {"is_initialized": True, "get_world_size": hosts * per_host, "get_rank": 1, "get_backend": "nccl"}
    for name, answer in group.items():
        monkeypatch.setattr(f"torch.distributed.{name}", lambda *_, answer=answer: answer)
    connector = make(accelerator="cpu", devices=devices)
    assert strategy_name(connector) == "SingleDeviceStrategy"
    assert connector._num_nodes_flag == 1


def test_neuron_cores_that_lightning_cannot_use_start_no_processes(
    make: Make, job: Job, see_gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    see_gpus(0)
    job("none", gpus=0)
    monkeypatch.setenv("SM_NUM_NEURONS", "32")
    strategy = make(accelerator="cpu").strategy
    assert (strategy.num_processes, strategy.num_nodes, strategy.world_size) == (1, 2, 2)


def test_without_a_launcher_explicit_devices_are_taken(make: Make, job: Job) -> None:
    job("none", gpus=8)
    strategy = make(accelerator="cpu", devices=3).strategy
    assert (strategy.num_processes, strategy.world_size) == (3, 6)


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("devices", [1, 3, "3"])
@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_devices_that_contradict_the_launcher_are_an_error_that_names_both(
    make: Make, job: Job, launcher: str, devices: int | str, strategy: str
) -> None:
    job(launcher)
    with pytest.raises(ValueError, match=rf"`devices` to {devices} device.* started 2\b.*HINT: remove `devices`"):
        make(accelerator="cpu", devices=devices, strategy=strategy)


def test_a_list_of_gpus_that_contradicts_the_launcher_is_an_error(
    make: Make, job: Job, see_gpus: Callable[[int], None]
) -> None:
    see_gpus(8)
    job("torchrun", per_host=4)
    with pytest.raises(ValueError, match=r"`devices` to 2 device.* torchrun started 4\b.*HINT: "):
        make(devices=[0, 5])


def test_parallel_devices_that_contradict_the_launcher_are_an_error(
    make: Make, distribution: Distribution, part: str, job: Job
) -> None:
    job("torchrun")
    devices = distribution.get(part, "accelerators.CPUAccelerator").get_parallel_devices(3)
    with pytest.raises(ValueError, match=r"`devices` to 3 device.* torchrun started 2\b.*HINT: "):
        make(strategy=distribution.get(part, "strategies.DDPStrategy")(parallel_devices=devices))


def test_fewer_processes_than_gpus_are_said_in_one_line_on_rank_zero(
    make: Make, job: Job, see_gpus: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    see_gpus(8)
    for rank, devices, lines in ((0, "auto", 1), (1, "auto", 0), (0, 4, 0)):
        job("torchrun", hosts=1, per_host=4, rank=rank)
        messages._said.clear()
        caplog.clear()
        for _ in range(2):
            make(devices=devices)
        told = [
            line for line in caplog.messages if "started 4 process(es) on each host, but torch sees 8 device(s)" in line
        ]
        assert len(told) == lines
        assert all("stay idle. HINT: let the job's distribution start a process per device" in line for line in told)


@pytest.mark.parametrize("hosts", [1, 2])
def test_local_rank_alone_is_a_line_since_nobody_starts_the_others(
    *,
    make: Make,
    job: Job,
    hosts: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job("none", hosts=hosts, gpus=2)
    messages._said.clear()
    make(accelerator="cpu")
    monkeypatch.setenv("LOCAL_RANK", "0")
    make(accelerator="cpu", devices=1)
    assert "LOCAL_RANK" not in caplog.text
    connector = make(accelerator="cpu")
    assert connector.cluster_environment.creates_processes_externally  # as in stock
    assert "`LOCAL_RANK`=0 says that the 2 processes of this host are started by hand" in caplog.text
    caplog.clear()
    messages._said.clear()
    monkeypatch.setenv("NODE_RANK", "0")  # Lightning's launcher has run
    make(accelerator="cpu")
    monkeypatch.delenv("NODE_RANK")
    monkeypatch.setenv("LOCAL_RANK", "1")
    make(accelerator="cpu")
    assert "LOCAL_RANK" not in caplog.text


@pytest.mark.parametrize("gpus", [1, 4])
def test_what_images_set_for_a_single_process_keeps_lightning_from_starting_none(
    make: Make, job: Job, monkeypatch: pytest.MonkeyPatch, gpus: int
) -> None:
    job("none", hosts=2, gpus=gpus)
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    strategy = make(accelerator="cpu").strategy
    assert (strategy.num_nodes, strategy.num_processes, strategy.world_size) == (2, gpus, 2 * gpus)
    assert not strategy.cluster_environment.creates_processes_externally
    assert os.environ[FOREIGN_RANK] == "0"


# --- num_nodes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", [*LAUNCHERS, "none"])
@pytest.mark.parametrize("num_nodes", [3, 16])
def test_num_nodes_that_contradicts_the_job_is_an_error_that_names_both(
    make: Make, job: Job, launcher: str, num_nodes: int
) -> None:
    job(launcher)
    with pytest.raises(ValueError, match=rf"`num_nodes={num_nodes}`, but 2 host.*HINT: remove `num_nodes`"):
        make(num_nodes=num_nodes)


def test_num_nodes_that_contradicts_a_job_of_one_host_is_an_error(make: Make, job: Job) -> None:
    job("none", hosts=1)
    with pytest.raises(ValueError, match=r"`num_nodes=2`, but 1 host.*HINT: remove `num_nodes`"):
        make(num_nodes=2)


def test_num_nodes_of_1_yields_to_the_cluster(make: Make, job: Job) -> None:
    job("torchrun")
    assert make(num_nodes=1).strategy.num_nodes == 2


def test_the_cluster_s_num_nodes_is_said_in_one_line(make: Make, job: Job, caplog: pytest.LogCaptureFixture) -> None:
    job("torchrun")
    with caplog.at_level(logging.INFO, logger=LOG.name):
        make()
    lines = [record.getMessage() for record in caplog.records if record.name == LOG.name]
    assert len(lines) == 1
    assert lines[0].startswith("num_nodes=2, as in SageMakerJob(name=digits, launcher=torchrun")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_only_rank_zero_says_the_cluster_s_num_nodes(
    make: Make, job: Job, caplog: pytest.LogCaptureFixture, rank: int
) -> None:
    job("torchrun", rank=rank)
    with caplog.at_level(logging.INFO, logger=LOG.name):
        make()
    assert [record for record in caplog.records if record.name == LOG.name] == []


def test_an_explicit_num_nodes_that_is_right_needs_no_line(
    make: Make, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    job("torchrun")
    with caplog.at_level(logging.INFO, logger=LOG.name):
        assert make(num_nodes=2).strategy.num_nodes == 2
    assert [record for record in caplog.records if record.name == LOG.name] == []


# --- logging ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def fresh_logging(*handlers: logging.Handler) -> Iterator[None]:
    """Logging as in a fresh interpreter: pytest's own handlers are away."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, list(handlers)
    try:
        yield
    finally:
        root.handlers = before


class Keeping(logging.Handler):
    """A handler of the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.names.append(record.name)


def test_the_line_is_shown_where_the_user_set_up_no_logging(
    make: Make, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    job("torchrun")
    with fresh_logging():
        make()
        make()
    assert capsys.readouterr().err.count("num_nodes=2, as in SageMakerJob(") == 2


def test_a_handler_of_the_user_s_at_the_root_gets_the_line_instead(
    make: Make, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    job("torchrun")
    handler = Keeping()
    LOG.setLevel(logging.INFO)
    with fresh_logging(handler):
        make()
    assert handler.names.count(LOG.name) == 1
    assert (LOG.handlers, LOG.propagate) == ([], True)
    assert "num_nodes=2" not in capsys.readouterr().err


def test_a_handler_of_the_user_s_at_our_logger_gets_the_line_instead(
    make: Make, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    job("torchrun")
    handler = Keeping()
    LOG.setLevel(logging.INFO)
    LOG.addHandler(handler)
    with fresh_logging():
        make()
    assert handler.names == [LOG.name]
    assert LOG.handlers == [handler]
    assert "num_nodes=2" not in capsys.readouterr().err


@pytest.mark.parametrize("level", [logging.WARNING, logging.DEBUG])
def test_a_level_that_the_user_set_stays(make: Make, job: Job, level: int) -> None:
    job("torchrun")
    LOG.setLevel(level)
    with fresh_logging():
        make()
    assert LOG.level == level


def test_a_line_that_the_user_s_level_excludes_is_not_shown(
    make: Make, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    job("torchrun")
    LOG.setLevel(logging.WARNING)
    with fresh_logging():
        make()
    assert "num_nodes=2" not in capsys.readouterr().err


# --- whoever comes before us -----------------------------------------------------------------------------------------


def test_an_environment_in_plugins_comes_first(make: Make, distribution: Distribution, job: Job) -> None:
    job("mpirun")
    environment = distribution.get("fabric", "plugins.environments.LightningEnvironment")()
    connector = make(plugins=[environment])
    assert connector.cluster_environment is environment
    assert strategy_name(connector) == "SingleDeviceStrategy"  # nor are its devices and hosts ours


def test_the_environment_of_a_strategy_instance_comes_first(
    make: Make, distribution: Distribution, part: str, job: Job
) -> None:
    job("mpirun")
    environment = distribution.get("fabric", "plugins.environments.LightningEnvironment")()
    strategy = distribution.get(part, "strategies.DDPStrategy")(cluster_environment=environment)
    made = make(strategy=strategy).strategy
    assert made.cluster_environment is environment
    assert (made.num_nodes, made.num_processes) == (1, 1)


def test_our_environment_in_plugins_is_served_as_the_one_found(make: Make, job: Job) -> None:
    job("torchrun", rank=3)
    environment = SageMakerEnvironment()
    strategy = make(plugins=[environment]).strategy
    assert strategy.cluster_environment is environment
    assert (strategy.num_nodes, strategy.num_processes, strategy.world_size, strategy.global_rank) == (2, 2, 4, 3)


def test_our_environment_in_a_strategy_instance_is_served_as_the_one_found(
    make: Make, distribution: Distribution, part: str, job: Job
) -> None:
    job("torchrun", rank=3)
    environment = SageMakerEnvironment()
    strategy = make(strategy=distribution.get(part, "strategies.DDPStrategy")(cluster_environment=environment)).strategy
    assert strategy.cluster_environment is environment
    assert (strategy.num_nodes, strategy.num_processes, strategy.world_size, strategy.global_rank) == (2, 2, 4, 3)


def test_our_environment_serves_both_distributions_in_one_process(job: Job) -> None:
    if importlib.util.find_spec("lightning") is None:
        pytest.skip("the distribution `lightning` is not installed")
    job("torchrun", rank=3)
    environment = SageMakerEnvironment()
    for each in DISTRIBUTIONS.values():
        assert isinstance(environment, each.get("fabric", "plugins.environments.ClusterEnvironment"))
        assert each.get("pytorch", "Trainer")(plugins=[environment], **QUIET).world_size == 4
        assert each.get("fabric", "Fabric")(plugins=[environment]).world_size == 4


def test_slurm_comes_first(make: Make, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job("none", gpus=2)
    slurm = {"NTASKS": "4", "JOB_NAME": "train", "PROCID": "3", "LOCALID": "1", "NODEID": "1", "NTASKS_PER_NODE": "2"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    connector = make(accelerator="cpu", devices=2, num_nodes=2)
    assert type(connector.cluster_environment).__name__ == "SLURMEnvironment"
    assert connector.strategy.global_rank == 3


def test_lsf_comes_first(make: Make, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job("none", gpus=2)
    hosts = tmp_path / "hosts"
    hosts.write_text("launch\nhere\nhere\n")
    lsf = {"LSB_JOBID": "1", "LSB_DJOB_RANKFILE": str(hosts), "JSM_NAMESPACE_SIZE": "2"}
    lsf |= {"JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_LOCAL_RANK": "1"}
    for name, value in lsf.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    connector = make(accelerator="cpu", devices=2)
    assert type(connector.cluster_environment).__name__ == "LSFEnvironment"
    assert connector.strategy.global_rank == 1


def test_torchrun_outside_sagemaker_stays_lightning_s(make: Make, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job("torchrun", rank=3)
    monkeypatch.delenv("TRAINING_JOB_NAME")
    connector = make(accelerator="cpu", devices=2, num_nodes=2)
    assert type(connector.cluster_environment).__name__ == "TorchElasticEnvironment"
    assert connector.strategy.global_rank == 3


def test_a_stray_variable_without_resourceconfig_changes_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRAINING_JOB_NAME", "digits")
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    connector = make()
    assert type(connector.cluster_environment).__name__ == "LightningEnvironment"
    assert strategy_name(connector) == "SingleDeviceStrategy"


def test_a_damaged_job_is_an_error_at_construction(make: Make, job: Job, tmp_path: Path) -> None:
    job("torchrun")
    (tmp_path / "input" / "config" / "resourceconfig.json").write_text('{"current_host": "algo-1", "hos')
    with pytest.raises(ValueError, match=r"resourceconfig\.json is not JSON.*HINT: "):
        make()


def test_with_the_off_switch_our_environment_is_still_accepted_by_name(
    job: Job, distribution: Distribution, part: str
) -> None:
    job("torchrun", rank=3)
    name = "Trainer" if part == "pytorch" else "Fabric"
    code = f"""
from {getattr(distribution, part)} import {name}
from lightning_sagemaker import SageMakerEnvironment
found = {name}(accelerator="cpu", devices=2, num_nodes=2)
found = getattr(found, "_accelerator_connector", None) or found._connector
assert type(found.cluster_environment).__name__ == "TorchElasticEnvironment"
made = {name}(accelerator="cpu", devices=2, num_nodes=2, plugins=[SageMakerEnvironment()])
assert type(made.strategy.cluster_environment) is SageMakerEnvironment
print(made.world_size, made.global_rank)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LIGHTNING_SAGEMAKER_AUTOLOAD": "0"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "4 3"


# --- processes that a strategy starts --------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("how", ["ddp_spawn", "ddp_notebook", "fork"])
def test_a_strategy_that_starts_processes_is_refused_where_a_launcher_has_started_them(
    *, make: Make, job: Job, distribution: Distribution, part: str, launcher: str, how: str
) -> None:
    job(launcher)
    strategy = how if how != "fork" else distribution.get(part, "strategies.DDPStrategy")(start_method="fork")
    with pytest.raises(ValueError, match=r"starts 2 processes by itself.*has started 2 on each host already.*HINT: "):
        make(accelerator="cpu", devices=2, strategy=strategy)
    job(launcher, per_host=1)
    assert make(accelerator="cpu", devices=1, strategy=how if how != "fork" else "ddp_fork").strategy.world_size == 2


def test_in_a_kernel_on_several_hosts_processes_are_forked(
    make: Make, job: Job, distribution: Distribution, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "trainer.connectors.accelerator_connector" if part == "pytorch" else "connector"
    monkeypatch.setattr(importlib.import_module(f"{getattr(distribution, part)}.{module}"), "_IS_INTERACTIVE", True)
    job("none")
    strategy = make(accelerator="cpu", devices=1).strategy
    assert strategy.launcher._start_method == "fork"
    assert strategy.world_size == 2
