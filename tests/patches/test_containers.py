"""Trainers and Fabrics in the containers that SDK v2 and v3 really make, and what else they start.

What is in the containers is written by the SDKs' own code (``containers/by_sdk.py``), in the environments of the SDKs;
what the toolkit adds, by the real toolkit. Only Docker, SageMaker and the launchers' processes are left out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker import SageMakerEnvironment, SageMakerJob
from tests.simulate.helpers import require

from .connectors import clean as clean  # noqa: PLC0414 - fixtures
from .connectors import distribution as distribution  # noqa: PLC0414
from .connectors import make as make  # noqa: PLC0414
from .connectors import part as part  # noqa: PLC0414

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Container = dict[str, dict[str, str]]
    Enter = Callable[..., None]
    Make = Callable[..., Any]

BY_SDK = Path(__file__).parent / "containers" / "by_sdk.py"
SDKS = pytest.mark.parametrize("sdk", ["v2", "v3"])
TOOLKIT = """
import json
from sagemaker_training.environment import Environment
print("\\n" + json.dumps(Environment().to_env_vars()))
"""
# What SageMaker itself sets in each training job.
PLATFORM = {
    "TRAINING_JOB_NAME": "digits",
    "TRAINING_JOB_ARN": "arn:aws:sagemaker:us-east-1:123456789012:training-job/digits",
}

pytestmark = pytest.mark.xdist_group("containers")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, list[Container]]]:
    """What an SDK makes, by situation: one container for each host."""
    done: dict[str, dict[str, list[Container]]] = {}

    def made(sdk: str) -> dict[str, list[Container]]:
        if sdk not in done:
            python = Path(sys.prefix, "sdk", sdk, "bin", "python")
            if not python.exists():
                require(f"no environment with SageMaker's SDK {sdk}; `make .venv/.sdk` makes them")
            folder = tmp_path_factory.mktemp(sdk)
            aws = {"ACCESS_KEY_ID": "none", "SECRET_ACCESS_KEY": "none", "DEFAULT_REGION": "us-east-1"}
            environ = {f"AWS_{name}": value for name, value in aws.items()} | {"AWS_EC2_METADATA_DISABLED": "true"}
            environ |= {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONWARNINGS": "ignore"}
            run = subprocess.run(
                [python, BY_SDK, sdk, folder], env=environ, capture_output=True, text=True, timeout=300, check=False
            )
            assert run.returncode == 0, run.stdout + run.stderr
            done[sdk] = json.loads((folder / "made.json").read_text())
        return done[sdk]

    return made


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Enter:
    """Make this process one in such a container."""

    def enter(container: Container, **more: object) -> None:
        base = tmp_path / "opt" / "ml"
        for name, text in container["files"].items():
            path = Path(name.replace("/opt/ml", str(base), 1))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in [name for name in os.environ if name in ENTERED]:
            monkeypatch.delenv(name)
        variables = container["environ"] | {"SAGEMAKER_BASE_DIR": str(base)} | more
        ENTERED.update(variables)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    ENTERED.clear()
    return enter


ENTERED: set[str] = set()


def torchrun(rank: int, hosts: int) -> dict[str, object]:
    """What torchrun adds, with two processes on each host."""
    world = {"RANK": rank, "LOCAL_RANK": rank % 2, "WORLD_SIZE": 2 * hosts, "LOCAL_WORLD_SIZE": 2}
    groups = {"GROUP_RANK": rank // 2, "GROUP_WORLD_SIZE": hosts, "TORCHELASTIC_RUN_ID": "none"}
    return {**world, **groups, "MASTER_ADDR": "algo-1", "MASTER_PORT": 7777}


def mpirun(rank: int, size: int, local_size: int) -> dict[str, object]:
    """What Open MPI adds."""
    world = {"RANK": rank, "SIZE": size, "LOCAL_RANK": rank % local_size, "LOCAL_SIZE": local_size}
    return {f"OMPI_COMM_WORLD_{name}": value for name, value in world.items()}


def numbers(connector: Any) -> list[object]:
    """The world, and this process's place in it, as the strategy has them."""
    environment = connector.cluster_environment
    assert isinstance(environment, SageMakerEnvironment)
    return [environment.num_nodes(), environment.node_rank(), connector.strategy.world_size, environment.global_rank()]


def is_left_alone(connector: Any) -> bool:
    return type(connector.cluster_environment).__name__ == "LightningEnvironment"


@SDKS
@pytest.mark.parametrize("hosts", [1, 2])
def test_a_training_of_local_mode(made: Any, enter: Enter, make: Make, sdk: str, hosts: int) -> None:
    """SDK v3 names an interface, ``ethwe``, that no container has; v2's hosts have names with five random letters."""
    containers = made(sdk)[f"local training, {hosts}"]
    assert len(containers) == hosts
    for index, container in enumerate(containers):
        enter(container)
        assert numbers(make(accelerator="cpu", devices=1)) == [hosts, index, hosts, index if hosts > 1 else 0]
        job = SageMakerJob.detect()
        assert job is not None
        assert (job.name, job.launcher, job.network_interface) == ("digits", "none", {"v2": "eth0", "v3": "ethwe"}[sdk])
        if sdk == "v3":  # and with `Torchrun()`, which sets NCCL_SOCKET_IFNAME to that interface
            enter(container, **torchrun(2 * index, hosts), NCCL_SOCKET_IFNAME="ethwe")
            assert numbers(make(accelerator="cpu")) == [hosts, index, 2 * hosts, 2 * index]


def test_the_toolkit_in_a_training_of_local_mode_and_of_a_tuning_job(made: Any, enter: Enter, make: Make) -> None:
    """A tuning job adds a hyperparameter, ``_tuning_objective_metric``, and nothing else."""
    if importlib.util.find_spec("sagemaker_training") is None:
        require("the real toolkit is not installed (module sagemaker_training)")
    for index, container in enumerate(made("v2")["local training, 2"]):
        assert "_tuning_objective_metric" in container["files"]["/opt/ml/input/config/hyperparameters.json"]
        enter(container)
        run = subprocess.run([sys.executable, "-c", TOOLKIT], capture_output=True, text=True, timeout=120, check=False)
        assert run.returncode == 0, run.stderr
        added = {name: value for name, value in json.loads(run.stdout.splitlines()[-1]).items() if value is not None}
        added = {name: value if isinstance(value, str) else json.dumps(value) for name, value in added.items()}
        assert added["SM_HPS"] == '{"lr":0.1}', "the toolkit keeps the other one to itself"
        enter(container, **added)
        assert numbers(make(accelerator="cpu", devices=1)) == [2, index, 2, index]
        job = SageMakerJob.detect()
        assert job is not None
        assert (job.sdk, job.launcher) == ("v2", "none")


@pytest.mark.parametrize("situation", ["local processing", "local serving"])
def test_other_containers_of_local_mode_are_left_alone(made: Any, enter: Enter, make: Make, situation: str) -> None:
    for container in made("v2")[situation]:
        enter(container)
        assert SageMakerJob.detect() is None
        assert is_left_alone(make(accelerator="cpu", devices=1))
        # A name that was left in the variables of such a container is no job either.
        enter(container, TRAINING_JOB_NAME="of-the-training-before")
        assert is_left_alone(make(accelerator="cpu", devices=1))


def test_a_notebook_job_is_a_training_job_with_an_entry_point_of_its_own(made: Any, enter: Enter, make: Make) -> None:
    (container,) = made("v2")["notebook job"]
    enter(container)
    assert is_left_alone(make(accelerator="cpu", devices=1)), "as the SDK gives it, before SageMaker has started it"
    resources = json.dumps({"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"})
    container["files"]["/opt/ml/input/config/resourceconfig.json"] = resources
    enter(container, **PLATFORM)
    assert numbers(make(accelerator="cpu", devices=1)) == [1, 0, 1, 0]


@SDKS
@pytest.mark.parametrize("hosts", [1, 2])
def test_a_function_of_remote_or_step(made: Any, enter: Enter, make: Make, sdk: str, hosts: int) -> None:
    for index, container in enumerate(made(sdk)[f"remote, plain, {hosts}"]):
        enter(container, **PLATFORM)
        assert numbers(make(accelerator="cpu", devices=1)) == [hosts, index, hosts, index if hosts > 1 else 0]
    for index, container in enumerate(made(sdk)[f"remote, torchrun, {hosts}"]):
        for rank in (2 * index, 2 * index + 1):
            enter(container, **PLATFORM, **torchrun(rank, hosts))
            assert numbers(make(accelerator="cpu")) == [hosts, index, 2 * hosts, rank]


@SDKS
def test_a_function_of_remote_under_mpirun(made: Any, enter: Enter, make: Make, sdk: str) -> None:
    """The SDK gives mpirun the processes of one host as the total."""
    containers: Mapping[str, list[Container]] = made(sdk)
    enter(containers["remote, mpirun, 1"][0], **PLATFORM, **mpirun(1, size=2, local_size=2))
    assert numbers(make(accelerator="cpu")) == [1, 0, 2, 1]
    enter(containers["remote, mpirun, 2"][0], **PLATFORM, **mpirun(1, size=2, local_size=2))
    with pytest.raises(ValueError, match=r"mpirun started 2 process\(es\) on 1 host.*`@remote\(use_torchrun=True\)`"):
        make(accelerator="cpu")
