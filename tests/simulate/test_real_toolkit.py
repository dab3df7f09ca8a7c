"""The environment of a simulated worker against the real ``sagemaker-training`` toolkit's (SDK v2).

The toolkit runs unmodified, relocated by its own SAGEMAKER_BASE_DIR. Its hosts are called 127.0.0.1 and 127.0.0.2
instead of algo-1 and algo-2: such names resolve without root, so its wait for DNS and torchrun's meeting are the real
ones too.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ..aside import ASIDE  # noqa: TID252 - importmode=importlib
from .helpers import PLAIN, PROBE, Seen, differences, finish, normalised, read_probes, require

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = {"algo-1": "127.0.0.1", "algo-2": "127.0.0.2"}
PROCESSES = 2
TYPE = "ml.p4d.24xlarge"
# As a user would pass them: numbers, text, a name with a dash, a value with a blank, a truth value.
ARGUMENTS = ("--epochs", "2", "--flag", "true", "--learning-rate", "0.1", "--name", "a-b")
HYPERPARAMETERS: dict[str, Any] = {"epochs": 2, "flag": "true", "learning-rate": 0.1, "name": "a-b"}

MODE = {"TrainingInputMode": "File", "RecordWrapperType": "None"}
CHANNELS = {  # as SageMaker writes them
    "part-1": {**MODE, "S3DistributionType": "ShardedByS3Key"},
    "all": {**MODE, "S3DistributionType": "FullyReplicated"},
}

# variable: why a simulated worker's may differ from the real one's.
ALLOWED = {
    "CUDA_VISIBLE_DEVICES": "simulated hosts share one machine's GPUs; a real host has its own",
    "GLOO_SOCKET_IFNAME": "every simulated host is this machine; gloo would ask for the address of its name",
    "LIGHTNING_SAGEMAKER_RANK_PROCESS": "the process id of torchrun's agent, which has imported torch",
    "LIGHTNING_SAGEMAKER_SIMULATION": "by which a simulation knows its processes; a container's end needs no mark",
    "PROBE_FOLDER": "where this test's probe writes",
    "MASTER_ADDR": "algo-N resolves on no laptop without root: 127.0.0.1",
    "MASTER_PORT": "7777 becomes a free port; on one host torchrun chooses one itself",
    "PATH": "the real run has a fake nvidia-smi on it",
    "PYTHONPATH": "the toolkit writes out its own sys.path; checked apart: the source folder comes first",
    "PYTHONUNBUFFERED": "set by the images, not by the toolkit",
    "TMPDIR": "simulated hosts share one machine's /tmp",
    "TORCHELASTIC_ERROR_FILE": "torchrun's own temporary file, new in each run",
    "TORCHELASTIC_RUN_ID": "on one node torchrun makes up an id for each run",
}


def real_base(folder: Path, host: str, hosts: list[str], distribution: str, name: str) -> Path:
    """Lay out one host's files as AWS does."""
    base = folder / host / "ml"
    for part in ("input/config", "input/data", "model", "output/data", "checkpoints", "code"):
        (base / part).mkdir(parents=True)
    (base / "code" / "train.py").write_text(PROBE, encoding="utf-8")
    addresses = [NAMES[one] for one in hosts]
    group = {"instance_group_name": "homogeneousCluster", "instance_type": TYPE, "hosts": addresses[::-1]}
    resources = {
        "current_host": NAMES[host],
        "current_instance_type": TYPE,
        "current_group_name": "homogeneousCluster",
        "hosts": addresses,
        "instance_groups": [group],
        "network_interface_name": "lo",
    }
    hyperparameters: dict[str, Any] = {
        **HYPERPARAMETERS,
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": str(base / "code"),
        "sagemaker_container_log_level": 20,
        "sagemaker_job_name": name,
        "sagemaker_region": "us-east-1",
    }
    if distribution == "torch_distributed":
        hyperparameters |= {
            "sagemaker_torch_distributed_enabled": True,
            "sagemaker_instance_type": TYPE,
            "sagemaker_mpi_num_of_processes_per_host": PROCESSES,
        }
    config = base / "input/config"
    (config / "resourceconfig.json").write_text(json.dumps(resources))
    (config / "inputdataconfig.json").write_text(json.dumps(CHANNELS))
    (config / "hyperparameters.json").write_text(json.dumps({k: json.dumps(v) for k, v in hyperparameters.items()}))
    return base


def run_real(folder: Path, hosts: list[str], distribution: str, name: str) -> list[Seen]:
    """Run the real toolkit's ``train`` on all hosts at once."""
    for module in ("sagemaker_training", "sagemaker_pytorch_container"):
        if importlib.util.find_spec(module) is None:
            require(f"the real toolkit is not installed (module {module})")
    if not sys.platform.startswith("linux"):
        require("127.0.0.2 is an address of every machine on Linux only")
    seen, tools = folder / "seen", folder / "tools"
    seen.mkdir(parents=True)
    tools.mkdir()
    gpus = "\n".join(f"GPU {index}: fake" for index in range(PROCESSES))
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<END\n{gpus}\nEND\n")
    (tools / "nvidia-smi").chmod(0o755)
    running = []
    for host in hosts:
        env = {
            **PLAIN,
            "PATH": f"{tools}:{PLAIN['PATH']}",
            "SAGEMAKER_BASE_DIR": str(real_base(folder, host, hosts, distribution, name)),
            "SAGEMAKER_TRAINING_MODULE": "sagemaker_pytorch_container.training:main",
            "TRAINING_JOB_NAME": name,
            "PROBE_FOLDER": str(seen),
            "PYTHONPATH": str(ASIDE),
        }
        train = str(Path(sys.executable).with_name("train"))
        running.append(
            subprocess.Popen(
                [train],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            ),
        )
    finish(running)
    return read_probes(seen)


@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize("distribution", ["none", "torch_distributed"])
def test_worker_environment_equals_the_real_toolkits(
    distribution: str,
    hosts: int,
    probe: Callable[..., list[Seen]],
    tmp_path: Path,
) -> None:
    options = ["--hosts", str(hosts), "--processes-per-host", str(PROCESSES), "--distribution", distribution, "--keep"]
    data = tmp_path / "data"
    data.mkdir()
    options += ["--channel", f"part-1={data}:sharded", "--channel", f"all={data}"]
    simulated = probe(*options, "--work-dir", str(tmp_path / "job"), arguments=ARGUMENTS)
    names = list(NAMES)[:hosts]
    real = run_real(tmp_path / "real", names, distribution, simulated[0].env["TRAINING_JOB_NAME"])

    assert len(simulated) == len(real) == hosts * (PROCESSES if distribution == "torch_distributed" else 1)
    for ours, theirs in zip(simulated, real, strict=True):
        assert ours.argv == theirs.argv == list(ARGUMENTS)
        assert ours.rank == theirs.rank
        assert NAMES[ours.host] == theirs.host
        for one in (ours, theirs):
            code = f"{one.env['SAGEMAKER_BASE_DIR']}/code"
            assert one.path0 == one.cwd == one.env["PYTHONPATH"].split(":")[0] == code
            assert ("MASTER_PORT" in one.env) == ("MASTER_ADDR" in one.env) is True
        left = normalised(ours.env, {str(tmp_path / "job"): "ROOT"})
        back = {address: name for name, address in NAMES.items()}
        right = normalised(theirs.env, {str(tmp_path / "real"): "ROOT", **back})
        found = differences(left, right)
        assert set(found) <= set(ALLOWED), {k: v for k, v in found.items() if k not in ALLOWED}
