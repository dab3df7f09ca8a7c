"""``SageMakerEnvironment`` gives Lightning the job's facts, and refuses settings that contradict them."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore  # registers the backend "fake"

from lightning_sagemaker import SageMakerEnvironment
from lightning_sagemaker.environment import is_helper, is_started_by_rank, mark_rank, mark_script
from lightning_sagemaker.job import FOREIGN_RANK

from .job.launch_modes import LARGE, MODES, Process, started_by_lightning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Enter = Callable[..., SageMakerEnvironment]

FABRICS = [name for name in ("lightning.fabric", "lightning_fabric") if importlib.util.find_spec(name.split(".")[0])]
VARIABLES = {name for mode in MODES.values() for process in mode.processes() for name in process.environ}
VARIABLES -= {"PATH", "HOME"}

NONE = MODES["v2-none-2-hosts"].process("algo-2")
ALONE = MODES["v2-none-1-host"].process("algo-1")
LAUNCHED = {
    "torchrun": MODES["v2-torch_distributed-2-hosts"].process("algo-1", 3),
    "mpirun": MODES["v2-mpi-2-hosts"].process("algo-1", 3),
    "smddprun": MODES["v2-smddp-with-smddprun-2-hosts"].process("algo-1", 3),
    "custom": MODES["own-launcher"].process("algo-2", 3),
}


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Enter:
    """Put this process into a job, and give Lightning's environment of it."""

    def environment(process: Process, **changes: str) -> SageMakerEnvironment:
        folder = tmp_path / "input" / "config"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resourceconfig.json").write_text(json.dumps(process.config))
        for name in VARIABLES | {"NODE_RANK"}:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(FOREIGN_RANK, "")  # is put back in the end
        for name, value in {**process.environ, **changes, "SAGEMAKER_BASE_DIR": str(tmp_path)}.items():
            if name in VARIABLES or name not in os.environ or name == "SAGEMAKER_BASE_DIR":
                monkeypatch.setenv(name, value)
        return SageMakerEnvironment()

    return environment


# --- one class, both distributions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fabric", FABRICS)
def test_it_is_a_cluster_environment_of_each_distribution(fabric: str, enter: Enter) -> None:
    base = importlib.import_module(f"{fabric}.plugins.environments").ClusterEnvironment
    environment = enter(NONE)
    assert isinstance(environment, base)
    assert issubclass(SageMakerEnvironment, base)


@pytest.mark.parametrize("fabric", FABRICS)
def test_it_has_everything_that_a_cluster_environment_has(fabric: str, enter: Enter) -> None:
    base = importlib.import_module(f"{fabric}.plugins.environments").ClusterEnvironment
    environment = enter(NONE)
    for name in (name for name in vars(base) if not name.startswith("_")):
        assert hasattr(environment, name)
        assert isinstance(getattr(base, name), property) == isinstance(getattr(type(environment), name), property)
        assert callable(getattr(base, name)) == callable(getattr(type(environment), name))


def test_it_is_one_of_each_distribution_that_is_imported_after_it_was_made(enter: Enter) -> None:
    enter(NONE)  # for the environment variables, which the new process inherits
    program = f"""
        import importlib, sys
        from lightning_sagemaker import SageMakerEnvironment
        environment = SageMakerEnvironment()
        assert not any(name.startswith(("lightning.", "lightning_fabric")) for name in sys.modules)
        for name in {FABRICS}:
            module = importlib.import_module(name)
            assert isinstance(environment, module.plugins.environments.ClusterEnvironment), name
            print(name)
    """
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(line[8:] for line in program.splitlines())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == FABRICS


def test_trainings_of_one_host_do_not_meet_where_nobody_has_set_a_port(enter: Enter) -> None:
    process = MODES["own-none-1-host"].process("algo-1", 0)
    first, second = enter(process), enter(process)
    assert first.main_port != second.main_port
    assert first.main_port == first.main_port == first.current_job().main_port


def test_the_port_that_a_launcher_of_lightnings_has_set_is_the_one(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = enter(MODES["own-none-1-host"].process("algo-1", 0))
    monkeypatch.setenv("MASTER_PORT", "23456")
    assert environment.main_port == 23456


# --- getters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODES)
def test_getters_give_what_the_job_says(name: str, enter: Enter) -> None:
    processes = list(MODES[name].processes())
    for process in (processes[0], processes[-1]):
        environment, job = enter(process), process.expected
        assert SageMakerEnvironment.detect()
        assert environment.job == job
        assert environment.creates_processes_externally == (job.launcher != "none")
        assert environment.main_address == job.main_address
        takes_free_one = job.launcher == "none" and job.num_nodes == 1 and not process.environ.get("MASTER_PORT")
        assert (environment.main_port == job.main_port) != takes_free_one
        assert (environment.num_nodes(), environment.node_rank()) == (job.num_nodes, job.node_rank)
        assert environment.local_rank() == job.local_rank
        assert (environment.global_rank(), environment.world_size()) == (job.rank or 0, job.world_size or 1)


def test_a_child_of_lightnings_launcher_has_its_own_ranks(enter: Enter) -> None:
    environment = enter(NONE, **started_by_lightning({}, NONE.expected, 4, 3))
    assert environment.creates_processes_externally
    assert (environment.local_rank(), environment.global_rank(), environment.world_size()) == (3, 7, 8)
    assert (environment.num_nodes(), environment.node_rank()) == (2, 1)


def test_processes_are_started_once(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = enter(NONE)
    assert not environment.creates_processes_externally
    monkeypatch.setenv("LOCAL_RANK", "0")  # by Lightning's launcher, in the parent too
    assert environment.creates_processes_externally


def test_the_local_rank_of_a_spawned_process_is_set_late(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = enter(NONE)
    assert environment.local_rank() == 0
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert environment.local_rank() == 3


def test_one_host_without_a_launcher_takes_a_free_port_where_none_is_given(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As stock, which reads no other variable: several trainings may run on it beside each other."""
    one, other = (enter(ALONE) for _ in range(2))
    monkeypatch.setenv("SM_MASTER_PORT", "7777")
    monkeypatch.delenv("MASTER_PORT", raising=False)
    chosen = one.main_port
    assert chosen not in (other.main_port, 7777)
    monkeypatch.setenv("MASTER_PORT", str(chosen))  # by Lightning, for the processes that it starts
    assert one.main_port == SageMakerEnvironment().main_port == chosen


@pytest.mark.parametrize("launcher", LAUNCHED)
def test_a_launchers_local_rank_stays(launcher: str, enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = enter(LAUNCHED[launcher])
    monkeypatch.setenv("LOCAL_RANK", "5")
    assert environment.local_rank() == 3
    assert environment.creates_processes_externally


def test_a_given_job_is_presented_wherever_the_process_is() -> None:
    job = LAUNCHED["torchrun"].expected
    assert SageMakerEnvironment(job).job is job
    assert SageMakerEnvironment(job).global_rank() == 11


# --- what Lightning derived ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", LAUNCHED)
def test_the_launchers_world_size_is_accepted(launcher: str, enter: Enter) -> None:
    environment = enter(LAUNCHED[launcher])
    environment.set_world_size(16)
    assert environment.world_size() == 16


@pytest.mark.parametrize("size", [1, 2, 8, 15, 32])
@pytest.mark.parametrize("launcher", LAUNCHED)
def test_any_other_world_size_than_the_launchers_is_refused(launcher: str, size: int, enter: Enter) -> None:
    environment = enter(LAUNCHED[launcher])
    with pytest.raises(ValueError, match=rf"train with {size} process\(es\) .* job has 16: SageMakerJob\(.*HINT: "):
        environment.set_world_size(size)
    assert environment.world_size() == 16


@pytest.mark.parametrize("size", [2, 4, 16])
def test_without_launcher_any_number_of_devices_on_all_hosts_is_accepted(size: int, enter: Enter) -> None:
    environment = enter(NONE)
    environment.set_world_size(size)
    assert environment.world_size() == size


@pytest.mark.parametrize("size", [1, 3, 15])
def test_without_launcher_a_world_that_leaves_hosts_unequal_is_refused(size: int, enter: Enter) -> None:
    environment = enter(NONE)
    with pytest.raises(
        ValueError, match=rf"{size} process\(es\) \(`num_nodes` x `devices`\).* a multiple of 2: .*HINT: .*`num_nodes`"
    ):
        environment.set_world_size(size)
    assert environment.world_size() == 1


@pytest.mark.parametrize("size", [2, 4, 16])
def test_once_the_processes_run_their_number_stays(size: int, enter: Enter) -> None:
    environment = enter(NONE, **started_by_lightning({}, NONE.expected, 4, 0))
    environment.set_world_size(8)
    dist.init_process_group("fake", rank=0, world_size=8, store=FakeStore())
    try:
        with pytest.raises(ValueError, match=rf"{size} process\(es\).* has 8: .*HINT: "):
            environment.set_world_size(size)
    finally:
        dist.destroy_process_group()


def test_a_world_size_of_the_script_s_own_does_not_decide(enter: Enter) -> None:
    environment = enter(NONE, **started_by_lightning({}, NONE.expected, 4, 0) | {"WORLD_SIZE": "2"})
    environment.set_world_size(8)
    assert environment.world_size() == 8


def test_without_launcher_lightning_says_the_rank(enter: Enter) -> None:
    environment = enter(NONE)
    environment.set_global_rank(8)
    assert environment.global_rank() == 8


@pytest.mark.parametrize("launcher", LAUNCHED)
def test_the_launchers_rank_stays(launcher: str, enter: Enter) -> None:
    environment = enter(LAUNCHED[launcher])
    environment.set_global_rank(3)
    assert environment.global_rank() == 11


# --- what the user set -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", LAUNCHED)
def test_settings_that_fit_the_launcher_are_accepted(launcher: str, enter: Enter) -> None:
    enter(LAUNCHED[launcher]).validate_settings(num_devices=8, num_nodes=2)


@pytest.mark.parametrize("devices", [1, 3, 8])
def test_without_launcher_any_number_of_devices_is_accepted(devices: int, enter: Enter) -> None:
    enter(NONE).validate_settings(num_devices=devices, num_nodes=2)
    enter(ALONE).validate_settings(num_devices=devices, num_nodes=1)


@pytest.mark.parametrize("num_nodes", [1, 3, 16])
@pytest.mark.parametrize("process", [NONE, *LAUNCHED.values()], ids=["none", *LAUNCHED])
def test_another_number_of_hosts_is_refused(process: Process, num_nodes: int, enter: Enter) -> None:
    environment = enter(process)
    message = rf"`num_nodes={num_nodes}`, but 2 host\(s\) of the SageMaker job train together: SageMakerJob.*HINT: "
    with pytest.raises(ValueError, match=message):
        environment.validate_settings(num_devices=8, num_nodes=num_nodes)


@pytest.mark.parametrize("devices", [1, 7, 9, 16])
@pytest.mark.parametrize("launcher", LAUNCHED)
def test_another_number_of_devices_than_the_launcher_started_is_refused(
    launcher: str, devices: int, enter: Enter
) -> None:
    environment = enter(LAUNCHED[launcher])
    started = f"but {environment.job.launcher} started 8 process"
    with pytest.raises(
        ValueError, match=rf"`devices` to {devices} device.*{started}.*HINT: .*LightningEnvironment\(\)"
    ):
        environment.validate_settings(num_devices=devices, num_nodes=2)


@pytest.mark.parametrize("name", ["v2-torch_distributed", "v2-none"])
def test_refusals_are_short_for_1000_hosts(name: str, enter: Enter) -> None:
    environment = enter(LARGE[name].process("algo-1000"))
    with pytest.raises(ValueError, match="HINT: ") as nodes:
        environment.validate_settings(num_devices=8, num_nodes=1)
    with pytest.raises(ValueError, match="HINT: ") as size:
        environment.set_world_size(8)
    assert max(len(str(nodes.value)), len(str(size.value))) <= 1024


# --- outside of a job ------------------------------------------------------------------------------------------------


def test_outside_a_job_there_is_no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TRAINING_JOB_ARN", "TRAINING_JOB_NAME", "SM_TRAINING_ENV"):
        monkeypatch.delenv(name, raising=False)
    assert not SageMakerEnvironment.detect()
    with pytest.raises(RuntimeError, match=r"TRAINING_JOB_ARN, TRAINING_JOB_NAME, SM_TRAINING_ENV.*HINT: .*simulate"):
        SageMakerEnvironment()
    monkeypatch.setenv("TRAINING_JOB_NAME", "stray")
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    assert not SageMakerEnvironment.detect()
    with pytest.raises(RuntimeError, match=r"resourceconfig\.json is missing.*HINT: "):
        SageMakerEnvironment()


def test_a_contradictory_job_is_an_error_at_construction(enter: Enter) -> None:
    with pytest.raises(ValueError, match=r"`GROUP_RANK`=0 contradicts torchrun.*HINT: "):
        enter(LAUNCHED["torchrun"], GROUP_RANK="0")
    with pytest.raises(ValueError, match=r"`GROUP_RANK`=0 contradicts torchrun.*HINT: "):
        SageMakerEnvironment.detect()


# --- what it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [NONE, *LAUNCHED.values()], ids=["none", *LAUNCHED])
def test_nothing_that_it_does_changes_the_process(process: Process, enter: Enter) -> None:
    environment = enter(process)
    before = dict(os.environ)
    for _ in range(2):  # fit, and another fit
        environment = SageMakerEnvironment()
        environment.set_global_rank(11)
        environment.set_world_size(16)
        environment.validate_settings(num_devices=8, num_nodes=2)
        environment.teardown()
        assert environment.world_size() == 16
    assert dict(os.environ) == before


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
@pytest.mark.parametrize("process", [NONE, *LAUNCHED.values()], ids=["none", *LAUNCHED])
def test_a_copy_is_the_same(process: Process, copied: Callable[[Any], Any], enter: Enter) -> None:
    environment = enter(process)
    environment.set_global_rank(11)
    environment.set_world_size(16)
    twin = copied(environment)
    assert twin.job == environment.job
    assert (twin.global_rank(), twin.world_size()) == (11, 16)


def test_its_text_is_the_jobs() -> None:
    job = replace(NONE.expected, name="digits")
    assert repr(SageMakerEnvironment(job)) == (
        "SageMakerEnvironment(SageMakerJob(name=digits, launcher=none, host=algo-2 of [algo-1, algo-2],"
        " node_rank=1(2), local_rank=0(8), rank=None(None), main=algo-1:7777))"
    )


def test_a_process_that_a_rank_starts_knows_that_it_is_none_unless_a_launcher_started_it(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(LAUNCHED["torchrun"])
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_RANK_PROCESS", "")  # is put back in the end
    mark_script()
    assert not is_helper()
    code = "from lightning_sagemaker.environment import is_helper, is_started_by_rank as by_rank, mark_script;"
    command = [sys.executable, "-c", f"{code} mark_script(); print(is_helper(), by_rank())"]
    assert subprocess.check_output(command, text=True).strip() == "True False", "a process of a script may be a rank"
    mark_rank()
    assert not is_started_by_rank(), "the rank itself"
    assert subprocess.check_output(command, text=True).strip() == "True True"
    nested = os.environ | {"RANK": "0", "MASTER_PORT": "29999"}  # as torchrun sets them, started by the script
    assert subprocess.check_output(command, text=True, env=nested).strip() == "False False"


def test_after_a_fit_world_size_is_gone_as_in_stock_where_lightning_s_launcher_had_set_it(enter: Enter) -> None:
    for process, left in ((NONE, None), (LAUNCHED["torchrun"], "16")):
        environment = enter(process, **({} if left else {"WORLD_SIZE": "16", "LOCAL_RANK": "0"}))
        environment.teardown()
        assert os.environ.get("WORLD_SIZE") == left
