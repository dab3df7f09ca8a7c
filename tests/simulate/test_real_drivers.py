"""The environment of a simulated worker against SDK v3's real container drivers.

The drivers of the ``sagemaker-train`` wheel run unmodified, through the ``sm_train.sh`` that the SDK would send. They
know only ``/opt/ml`` and ``algo-1``, so each host is a private mount namespace with its own of both; nothing of it is
left behind. As root, or with unprivileged user namespaces.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .helpers import PLAIN, PROBE, Seen, differences, finish, normalised, read_probes
from .namespaces import inside, require_namespaces
from .v3_drivers import sdk, train_script

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESSES = 2
TYPE = "ml.p4d.24xlarge"
ARGUMENTS = ("--epochs", "2", "--flag", "true", "--learning-rate", "0.1", "--name", "a-b")
# As the SDK sends them: text as it is, everything else as JSON.
HYPERPARAMETERS = {"epochs": "2", "flag": "true", "learning-rate": "0.1", "name": "a-b"}
START = "chmod +x /opt/ml/input/data/sm_drivers/sm_train.sh && /opt/ml/input/data/sm_drivers/sm_train.sh"

# variable: why a simulated worker's may differ from the real one's.
ALLOWED = {
    "CUDA_VISIBLE_DEVICES": "simulated hosts share one machine's GPUs; a real host has its own",
    "GLOO_SOCKET_IFNAME": "every simulated host is this machine; gloo would ask for the address of its name",
    "LIGHTNING_SAGEMAKER_RANK_PROCESS": "the process id of torchrun's agent, which has imported torch",
    "LIGHTNING_SAGEMAKER_SIMULATION": "by which a simulation knows its processes; a container's end needs no mark",
    "MASTER_ADDR": "algo-N resolves on no laptop without root: 127.0.0.1",
    "MASTER_PORT": "7777 becomes a free port; on one host torchrun chooses one itself",
    "OLDPWD": "bash, which runs sm_train.sh",
    "PATH": "the real run has a fake nvidia-smi on it",
    "PROBE_FOLDER": "where this test's probe writes",
    "PWD": "bash, which runs sm_train.sh",
    "PYTHONPATH": "the folder of this package, and of the line-wise output of the launcher-less mode",
    "PYTHONUNBUFFERED": "set by the images, not by the drivers",
    "SAGEMAKER_BASE_DIR": "stands for the fixed /opt/ml",
    "SHLVL": "bash, which runs sm_train.sh",
    "SM_MASTER_ADDR": "algo-N resolves on no laptop without root: 127.0.0.1",
    "SM_MASTER_PORT": "7777 becomes a free port",
    "SM_TRAINING_ENV": "holds the address and the port once more; compared apart",
    "TMPDIR": "simulated hosts share one machine's /tmp",
    "TORCHELASTIC_ERROR_FILE": "torchrun's own temporary file, new in each run",
    "TORCHELASTIC_RUN_ID": "on one node torchrun makes up an id for each run",
    "_": "bash, which runs sm_train.sh",
}


def lay_out(folder: Path, host: str, hosts: list[str], distributed: dict[str, Any]) -> None:
    """Make one host's files as AWS and the SDK do."""
    drivers = folder / "ml/input/data/sm_drivers"
    for part in ("ml/input/config", "ml/input/data/code", "ml/model", "ml/output/data", "layers"):
        (folder / part).mkdir(parents=True)
    shutil.copytree(sdk() / "container_drivers", drivers)
    (folder / "ml/input/data/code/train.py").write_text(PROBE, encoding="utf-8")
    machine = Path("/etc/hosts").read_text(encoding="utf-8")
    (folder / "hosts").write_text(f"{machine}\n127.0.0.1 algo-1 algo-2\n")
    group = {"instance_group_name": "homogeneousCluster", "instance_type": TYPE, "hosts": hosts[::-1]}
    resources = {
        "current_host": host,
        "current_instance_type": TYPE,
        "current_group_name": "homogeneousCluster",
        "hosts": hosts,
        "instance_groups": [group],
        "network_interface_name": "lo",
    }
    mode = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    written = {
        "ml/input/config/resourceconfig.json": resources,
        "ml/input/config/inputdataconfig.json": {"code": mode, "sm_drivers": mode},
        "ml/input/config/hyperparameters.json": HYPERPARAMETERS,
        "ml/input/data/sm_drivers/sourcecode.json": {"source_dir": ".", "entry_script": "train.py"},
        "ml/input/data/sm_drivers/distributed.json": distributed,
    }
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content))
    (drivers / "sm_train.sh").write_text(train_script("torchrun_driver.py" if distributed else ""))


def run_real(folder: Path, hosts: list[str], distributed: dict[str, Any], job: str) -> list[Seen]:
    """Run the real drivers on all hosts at once."""
    seen, tools = folder / "seen", folder / "tools"
    seen.mkdir(parents=True)
    tools.mkdir()
    gpus = "\n".join(f"GPU {index}: fake" for index in range(PROCESSES))
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<END\n{gpus}\nEND\n")
    (tools / "nvidia-smi").chmod(0o755)
    env = {**PLAIN, "PATH": f"{tools}:{PLAIN['PATH']}", "TRAINING_JOB_NAME": job, "PROBE_FOLDER": str(seen)}
    running = []
    for host in hosts:
        lay_out(folder / host, host, hosts, distributed)
        running.append(
            subprocess.Popen(
                inside(folder / host, f'exec /bin/bash -c "{START}"'),
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            ),
        )
    finish(running)
    return read_probes(seen)


@pytest.fixture(scope="module", autouse=True)
def _namespaces(tmp_path_factory: pytest.TempPathFactory) -> None:
    sdk()
    require_namespaces(tmp_path_factory.mktemp("namespace"))


@pytest.mark.parametrize(("distribution", "hosts"), [("none", 2), ("torch_distributed", 1), ("torch_distributed", 2)])
def test_worker_environment_equals_the_real_drivers(
    distribution: str,
    hosts: int,
    probe: Callable[..., list[Seen]],
    tmp_path: Path,
) -> None:
    options = ["--sdk", "v3", "--hosts", str(hosts), "--processes-per-host", str(PROCESSES)]
    options += ["--distribution", distribution, "--work-dir", str(tmp_path / "job")]
    simulated = probe(*options, arguments=ARGUMENTS)
    names = [f"algo-{number + 1}" for number in range(hosts)]
    launcher = {} if distribution == "none" else {"process_count_per_node": PROCESSES, "smp": None}
    real = run_real(tmp_path / "real", names, launcher, simulated[0].env["TRAINING_JOB_NAME"])

    assert len(simulated) == len(real) == hosts * (PROCESSES if launcher else 1)
    for ours, theirs in zip(simulated, real, strict=True):
        assert ours.argv == theirs.argv == list(ARGUMENTS)
        assert (ours.rank, ours.host) == (theirs.rank, theirs.host)
        assert Path(ours.path0) == tmp_path / "job" / ours.host / "ml/input/data/code"
        left = normalised(ours.env, {str(tmp_path / "job" / ours.host / "ml"): "/opt/ml"})
        right = normalised(theirs.env, {})
        found = differences(left, right)
        assert set(found) <= set(ALLOWED), {k: v for k, v in found.items() if k not in ALLOWED}
        described = {**left["SM_TRAINING_ENV"], "master_addr": "algo-1", "master_port": 7777}
        assert described == right["SM_TRAINING_ENV"]
        assert left["SM_TRAINING_ENV"]["master_port"] == int(left["SM_MASTER_PORT"])
