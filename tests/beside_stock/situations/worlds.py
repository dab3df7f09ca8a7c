"""Which world a Trainer forms, in a job that has another one already, or none."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from lightning_sagemaker import latest_checkpoint, node_lock, once_per_node
from lightning_sagemaker.simulate.container import free_port
from tests.beside_stock.model import PLAIN, QUIET, Model, fitted, loader, trainer, weights
from tests.beside_stock.registry import ONCE, situation

if TYPE_CHECKING:
    from collections.abc import Mapping


def _seen(t: Trainer) -> dict[str, Any]:
    return {
        "strategy": type(t.strategy).__name__,
        "is ddp": isinstance(t.strategy, DDPStrategy),
        "is single": isinstance(t.strategy, SingleDeviceStrategy),
        "numbers": [t.num_nodes, t.num_devices, t.world_size, t.global_rank, t.local_rank, t.node_rank],
        "devices": [str(device) for device in getattr(t.strategy, "parallel_devices", None) or ()],
        "zero": t.is_global_zero,
    }


@situation()
def one_process(_start: int) -> Any:
    return _seen(Trainer(**QUIET))


@situation("two")
def two_processes(_start: int) -> Any:
    t = trainer()
    made = _seen(t)
    t.fit(Model(), loader())
    return made | {"after": _seen(t)}


def _tested(t: Trainer, m: Model) -> Any:
    m.seen = 0

    class Counts(Model):
        def test_step(self, batch: Any, batch_idx: int) -> Any:  # noqa: ARG002 - Lightning's name
            self.seen += len(batch[0])

    n = Counts()
    n.load_state_dict(m.state_dict())
    t.test(n, loader(16), verbose=False)
    return n.seen


@situation("two", arms=(*ONCE, "off"))
def one_device_test_after_a_fit(_start: int) -> Any:
    """``Trainer(devices=1, num_nodes=1)``, as Lightning's own warning recommends (pytorch-lightning#12862, #18761)."""
    t, m = trainer(), Model()
    t.fit(m, loader())
    found = None
    if t.is_global_zero:
        one = Trainer(**QUIET, devices=1, num_nodes=1)
        found = [_tested(one, m), one.world_size]
    t.strategy.barrier()
    return fitted(m, t) | {"tested": found}


@situation("hosts", arms=(*ONCE, "off"))
def one_device_test_after_a_fit_on_two_hosts(_start: int) -> Any:
    """The same on two hosts (pytorch-lightning#8375)."""
    t, m = trainer(), Model()
    t.fit(m, loader())
    found = None
    if t.is_global_zero:
        one = Trainer(**QUIET, devices=1, num_nodes=1)
        fabric = Fabric(accelerator="cpu", devices=1, num_nodes=1)
        fabric.setup(Model())
        found = [_tested(one, m), one.world_size, fabric.world_size]
    t.strategy.barrier()
    return fitted(m, t) | {"tested": found}


def _fit_destroy_and_test() -> Any:
    t, m = trainer(), Model()
    t.fit(m, loader())
    dist.destroy_process_group()
    found = None
    if t.is_global_zero:
        one = Trainer(**QUIET, devices=1, num_nodes=1)
        found = [_tested(one, m), one.world_size]
    return fitted(m, t) | {"tested": found}


@situation("two", arms=(*ONCE, "off"))
def one_device_test_after_the_group_is_destroyed(_start: int) -> Any:
    """As scripts do it that test exactly once."""
    return _fit_destroy_and_test()


@situation("hosts", arms=ONCE)
def one_device_test_after_the_group_is_destroyed_on_two_hosts(_start: int) -> Any:
    return _fit_destroy_and_test()


@situation("hosts", arms=(*ONCE, "off"))
def each_host_trains_on_its_own_by_a_strategy_of_one_device(_start: int) -> Any:
    """A strategy that has no world, with a logger that writes on rank zero only."""
    logger = CSVLogger("logs")
    t, m = Trainer(**(PLAIN | {"devices": 1}), strategy=SingleDeviceStrategy(device="cpu"), logger=logger), Model()
    t.fit(m, loader())
    return fitted(m, t) | _seen(t) | {"logs": sorted(str(path) for path in Path("logs").rglob("*.csv"))}


@situation("hosts", arms=(*ONCE, "off"))
def each_host_predicts_its_own(_start: int) -> Any:
    """Every host alone, with data of its own (ShardedByS3Key): ``plugins`` says so, and the script's word wins."""
    alone = {"devices": 1, "num_nodes": 1, "strategy": "auto", "plugins": [LightningEnvironment()]}
    predicted = trainer(**alone).predict(Model(), loader(16)) or []
    return sum(len(batch) for batch in predicted)


@situation("two")
def environment_of_the_scripts_choice(_start: int) -> Any:
    """A cluster environment that the script names stays."""
    environment = TorchElasticEnvironment()
    t, m = trainer(plugins=[environment]), Model()
    t.fit(m, loader())
    return fitted(m, t) | {"kept": t.strategy.cluster_environment is environment}  # type: ignore[attr-defined]


# --- an environment of the script's choice, where the job's own world cannot be had ----------------------------------


def _alone(environment: Any, **arguments: Any) -> Any:
    """A Trainer that runs apart from the job, and what else a script uses of the job."""
    t, m = Trainer(**(QUIET | {"devices": 1, "plugins": [environment]} | arguments)), Model()
    t.fit(m, loader())
    with node_lock("shared"):
        value = once_per_node(lambda: 1, key=f"once {type(environment).__name__}")
    return fitted(m, t) | _seen(t) | {"once": value, "newest": str(latest_checkpoint())}


def _launched_alone() -> None:
    """As by ``torchrun --standalone`` on each host."""
    world = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "GROUP_RANK": 0, "GROUP_WORLD_SIZE": 1}
    os.environ.update({name: str(value) for name, value in world.items()})
    os.environ.update(TORCHELASTIC_RUN_ID="none", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))


@situation("two")
def two_agents_of_torchrun_on_one_host(_start: int) -> Any:
    """As scripts start them that bind each to a part of the host."""
    os.environ.update(LOCAL_RANK="0", LOCAL_WORLD_SIZE="1", GROUP_RANK=os.environ["RANK"], GROUP_WORLD_SIZE="2")
    t, m = Trainer(**QUIET, devices=1, num_nodes=2, strategy="ddp"), Model()
    t.fit(m, loader())
    return _seen(t) | fitted(m, t)


@situation()
def node_rank_of_a_lone_host_from_its_name(_start: int) -> Any:
    """Numbers of hosts begin with 1; stock asks for them only where ranks train together."""
    os.environ["NODE_RANK"] = os.environ["SM_CURRENT_HOST"].removeprefix("algo-")
    t, m = Trainer(**QUIET, devices=1), Model()
    t.fit(m, loader())
    return {"number": os.environ["NODE_RANK"]} | _seen(t) | fitted(m, t)


@situation("hosts")
def standalone_launcher_on_each_host(_start: int) -> Any:
    """Hosts that train apart on purpose; the job's own world would be refused."""
    _launched_alone()
    return [_alone(LightningEnvironment()), _alone(TorchElasticEnvironment(), strategy="ddp")]


@situation("hosts", arms=(*ONCE, "off"))
def standalone_launcher_on_each_host_and_sigterm(_start: int) -> Any:
    _launched_alone()

    class Stopped(Model):
        def on_train_batch_start(self, _batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    Trainer(**QUIET, devices=1, plugins=[LightningEnvironment()]).fit(Stopped(), loader())


@situation("hosts")
def deepspeed_on_one_of_two_hosts(_start: int) -> Any:
    """Its launcher's variables; the other host has none."""
    if os.environ["NODE_RANK"] == "0":
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="4", LOCAL_SIZE="4", CROSS_RANK="0", CROSS_SIZE="1")
    return _alone(LightningEnvironment())


@situation()
def damaged_resources_beside_a_chosen_environment(_start: int) -> Any:
    path = Path(os.environ["SAGEMAKER_BASE_DIR"], "input/config/resourceconfig.json")
    text = path.read_text()
    path.write_text(text[:-5])
    try:
        return _alone(LightningEnvironment())
    finally:
        path.write_text(text)


@situation()
def no_resources_beside_a_chosen_environment(_start: int) -> Any:
    path = Path(os.environ["SAGEMAKER_BASE_DIR"], "input/config/resourceconfig.json")
    text, told = path.read_text(), os.environ.pop("SM_RESOURCE_CONFIG", None)
    path.unlink()
    try:
        return _alone(LightningEnvironment()) | {"told": told is not None}
    finally:
        path.write_text(text)


@situation("two", arms=ONCE)
def process_group_of_the_scripts_own(_start: int) -> Any:
    """``dist.init_process_group`` before the Trainer: Lightning keeps it."""
    dist.init_process_group("gloo")
    mine = dist.group.WORLD
    t, m = trainer(), Model()
    t.fit(m, loader())
    return fitted(m, t) | {"kept": dist.group.WORLD is mine, "numbers": _seen(t)["numbers"]}


@situation()
def world_size_alone(_start: int) -> Any:
    """A script that writes ``WORLD_SIZE`` only, which stock ignores (graphstorm and others)."""
    os.environ["WORLD_SIZE"] = "1"
    t, m = Trainer(**(QUIET | {"devices": 1})), Model()
    t.fit(m, loader())
    return fitted(m, t) | _seen(t)


@situation()
def defaults_of_a_single_process(_start: int) -> Any:
    """``RANK=0 WORLD_SIZE=1 LOCAL_RANK=0``, as many scripts set them where nothing else has."""
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    t, m = Trainer(**(QUIET | {"devices": 1})), Model()
    t.fit(m, loader())
    return fitted(m, t) | _seen(t)


@situation("two", arms=ONCE)
def without_main_address(_start: int) -> Any:
    """Of one host, stock takes the address for granted."""
    del os.environ["MASTER_ADDR"]
    t, m = trainer(), Model()
    t.fit(m, loader())
    return fitted(m, t) | _seen(t)


@situation(arms=ONCE)
def forked_processes(_start: int) -> Any:
    """``ddp_fork``, as notebooks use it (pytorch-lightning#6213, #16136)."""
    t, m = Trainer(**(QUIET | {"devices": 2, "strategy": "ddp_fork"})), Model()
    t.fit(m, loader())
    return {"weights": weights(m), "step": t.global_step, "seen": _seen(t)["numbers"]}


@situation(arms=ONCE)
def trainings_side_by_side(_start: int) -> Any:
    """Two trainings of two processes each, at the same time and where nobody has set a port."""
    os.environ.pop("MASTER_PORT", None)
    fork = multiprocessing.get_context("fork")
    both, found = fork.Barrier(2), fork.SimpleQueue()

    class Waits(Model):
        def on_train_start(self) -> None:
            if self.trainer.is_global_zero:
                both.wait(60)

    def train(seed: int) -> None:
        t, m = Trainer(**(QUIET | {"devices": 2, "strategy": "ddp_fork"})), Waits(seed=seed)
        t.fit(m, loader())
        found.put([seed, weights(m), t.world_size])

    processes = [fork.Process(target=train, args=(seed,)) for seed in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [[process.exitcode for process in processes], sorted(found.get() for _ in processes if not found.empty())]


_CHILD = textwrap.dedent("""
    from tests.beside_stock.model import QUIET, Model, loader
    from lightning.pytorch import Trainer
    t = Trainer(**(QUIET | {"devices": 1}))
    print(t.test(Model(), loader(8), verbose=False), t.world_size, type(t.strategy).__name__)
""")


@situation("two", arms=ONCE)
def child_that_evaluates(_start: int) -> Any:
    """Rank zero starts a child process with a Trainer of its own, which inherits the rank's variables."""
    return _fit_and_evaluate()


@situation("hosts", arms=ONCE)
def child_without_the_launcher_s_variables(_start: int) -> Any:
    """The child is to run alone."""
    return _fit_and_evaluate({"LOCAL_RANK": "", "NODE_RANK": "", "MASTER_ADDR": "", "MASTER_PORT": ""})


@situation("two", arms=ONCE, nightly=True)
def child_with_a_port_of_its_own(_start: int) -> Any:
    """Whose Trainer is to have a world of one, beside the rank's."""
    return _fit_and_evaluate({"MASTER_PORT": str(free_port())})


@situation("two", arms=ONCE, nightly=True)
def child_that_evaluates_beside_a_process_group_of_the_scripts_own(_start: int) -> Any:
    dist.init_process_group("gloo")
    return _fit_and_evaluate()


def _fit_and_evaluate(of_child: Mapping[str, str] = MappingProxyType({})) -> Any:
    t, m = trainer(), Model()
    t.fit(m, loader())
    found = None
    if t.is_global_zero:
        path = os.pathsep.join(part for part in sys.path if part)
        environment = {name: value for name, value in (os.environ | {"PYTHONPATH": path, **of_child}).items() if value}
        command = [sys.executable, "-W", "ignore", "-c", _CHILD]
        child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=75, check=False)
        found = [child.returncode, child.stdout]
    t.strategy.barrier()
    return fitted(m, t) | {"child": found}
