"""Starts a script on test hosts as SageMaker's containers start it, by unmodified public parts.

v2: the `sagemaker-training` toolkit's `train`, with `sagemaker-pytorch-training`; v3: the SDK's container drivers. Not
stock are two things: `nvidia-smi` is a fake that lists as many GPUs as there shall be processes (torch sees
none), and the MPI runners' fixed 30 s of sleep at the end are shortened.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker import simulate

from ..aside import ASIDE  # noqa: TID252 - importmode=importlib
from ..simulate.v3_drivers import sdk, train_script  # noqa: TID252 - importmode=importlib

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .hosts import Cluster, Host

TYPE = "ml.p4d.24xlarge"
REPOSITORY = Path(__file__).resolve().parents[2]
FAKE_SMDDP = Path(simulate.__file__).parent / "fake_smddp"
_MPI = "/usr/lib/x86_64-linux-gnu/libmpi.so.40"
# What only the toolkit imports, and not the ranks that it starts with its own path: the Makefile says why.
_START = f"""\
import sys, time
if len(sys.orig_argv) > 1 and sys.orig_argv[1].endswith("/train"):
    sys.path.append({str(ASIDE)!r})
    import scipy.sparse
    sys.path.pop()
if len(sys.orig_argv) > 1 and sys.orig_argv[1].endswith(("/train", "mpi_driver.py")):
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(1 if seconds == 30 else seconds)
"""


@dataclass(frozen=True)
class Mode:
    """One way in which SageMaker launches a script.

    Attributes:
        sdk: ``v2`` or ``v3``.
        flags: Hyperparameters of the toolkit, or the content of v3's ``distributed.json``.
        driver: File of v3's distributed driver.
        smddp: Whether the image has SMDDP (the fake one).
    """

    sdk: str
    flags: Mapping[str, Any]
    driver: str = ""
    smddp: bool = False


MODES = {
    "none": Mode("v2", {}),
    "torch_distributed": Mode("v2", {"sagemaker_torch_distributed_enabled": True}),
    "smdistributed": Mode("v2", {"sagemaker_distributed_dataparallel_enabled": True}, smddp=True),
    "pytorchddp": Mode("v2", {"sagemaker_pytorch_ddp_enabled": True}),
    "mpi": Mode("v2", {"sagemaker_mpi_enabled": True, "sagemaker_mpi_custom_mpi_options": ""}),
    "v3-none": Mode("v3", {}),
    "v3-torchrun": Mode("v3", {"smp": None}, "torchrun_driver.py"),
    "v3-mpi": Mode("v3", {"mpi_additional_options": []}, "mpi_driver.py"),
    "v3-mpi-repaired": Mode("v3", {"mpi_additional_options": ["-np", "{world}"]}, "mpi_driver.py"),
}


class Job:
    """A training job on test hosts.

    Args:
        cluster: The hosts, in the order of the instance group; the first is the leader of v2's launchers.
        mode: One of ``MODES``.
        script: The user's script.
        arguments: Its hyperparameters.
        processes: Processes on each host.
        environ: Variables of the job.
    """

    def __init__(
        self,
        cluster: Cluster,
        mode: str,
        script: Path,
        arguments: Mapping[str, object],
        *,
        processes: int = 2,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.cluster = cluster
        self._mode = MODES[mode]
        self._script = script
        self._arguments = arguments
        self._processes = processes
        self._environ = self._environment(environ or {})
        for host in cluster.hosts:
            self._lay_out(host)

    @property
    def world(self) -> list[Host]:
        """Hosts in the order of their ranks: the group's order with a launcher, the list's own without."""
        in_order = self._mode.sdk == "v2" and self._mode.flags
        return [self.cluster[name] for name in (self.cluster.hosts if in_order else sorted(self.cluster.hosts))]

    def start(self, *hosts: str) -> Job:
        """Start these hosts, or all."""
        for name in hosts or tuple(self.cluster.hosts):
            self.cluster[name].start(self._command(), self._environ)
        return self

    def wait(self, timeout: float) -> dict[str, int]:
        """Wait for the end of all hosts that run; exit code of each."""
        return {name: host.wait(timeout) for name, host in self.cluster.hosts.items() if host.started}

    @property
    def text(self) -> str:
        """What all hosts printed."""
        return "\n".join(f"[{name}] {line}" for name, host in self.cluster.hosts.items() for _, line in host.lines)

    def _command(self) -> Sequence[str]:
        if self._mode.sdk == "v2":
            return [str(Path(sys.executable).with_name("train"))]
        return ["/bin/bash", "-c", "/opt/ml/input/data/sm_drivers/sm_train.sh"]

    def _environment(self, given: Mapping[str, str]) -> dict[str, str]:
        tools = self.cluster.shared / "tools"
        tools.mkdir(exist_ok=True)
        gpus = "".join(f"GPU {index}: fake\\n" for index in range(self._processes))
        (tools / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{gpus}'\n")
        (tools / "nvidia-smi").chmod(0o755)
        (tools / "sitecustomize.py").write_text(_START)
        # Debian's Open MPI 4: the launchers' flags are of that version, and the environment may hold version 5 too.
        if not (tools / "mpirun").exists():
            (tools / "mpirun").symlink_to("/usr/bin/mpirun")
        python = [str(tools), *([str(FAKE_SMDDP)] if self._mode.smddp else [])]
        if "sklearn" in self._script.read_text():
            python.append(str(ASIDE))
        path = [str(tools), *([str(FAKE_SMDDP / "bin")] if self._mode.smddp else []), str(Path(sys.executable).parent)]
        return {
            "PATH": os.pathsep.join([*path, os.defpath, "/usr/sbin"]),
            "PYTHONPATH": os.pathsep.join(python),
            "PYTHONUNBUFFERED": "1",
            "MPI4PY_LIBMPI": _MPI,
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "AWS_REGION": "us-east-1",
            "TRAINING_JOB_NAME": "cluster-test",
            "SAGEMAKER_TRAINING_MODULE": "sagemaker_pytorch_container.training:main",
            **given,
        }

    def _lay_out(self, name: str) -> None:
        ml, names = self.cluster[name].ml, list(self.cluster.hosts)
        resources = {
            "current_host": name,
            "current_instance_type": TYPE,
            "current_group_name": "homogeneousCluster",
            "hosts": sorted(names),
            "instance_groups": [
                {"instance_group_name": "homogeneousCluster", "instance_type": TYPE, "hosts": names},
            ],
            "network_interface_name": "eth0",
        }
        written: dict[str, object] = {
            "input/config/resourceconfig.json": resources,
            "input/config/checkpointconfig.json": {"LocalPath": "/opt/ml/checkpoints", "S3Uri": "s3://bucket/prefix"},
        }
        lay_out = self._lay_out_v2 if self._mode.sdk == "v2" else self._lay_out_v3
        for path, content in (written | lay_out(ml)).items():
            (ml / path).parent.mkdir(parents=True, exist_ok=True)
            (ml / path).write_text(json.dumps(content))

    def _lay_out_v2(self, ml: Path) -> dict[str, object]:
        hyperparameters = {
            **self._arguments,
            **self._mode.flags,
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": "/opt/ml/code",
            "sagemaker_container_log_level": 20,
            "sagemaker_job_name": "cluster-test",
            "sagemaker_region": "us-east-1",
            "sagemaker_instance_type": TYPE,
            "sagemaker_mpi_num_of_processes_per_host": self._processes,
        }
        (ml / "code").mkdir()
        shutil.copy(self._script, ml / "code" / "train.py")
        return {
            "input/config/inputdataconfig.json": {},
            "input/config/hyperparameters.json": {key: json.dumps(value) for key, value in hyperparameters.items()},
        }

    def _lay_out_v3(self, ml: Path) -> dict[str, object]:
        drivers = ml / "input/data/sm_drivers"
        shutil.copytree(sdk() / "container_drivers", drivers)
        (drivers / "sm_train.sh").write_text(train_script(self._mode.driver))
        (drivers / "sm_train.sh").chmod(0o755)
        (ml / "input/data/code").mkdir()
        shutil.copy(self._script, ml / "input/data/code/train.py")
        mode = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
        world = str(self._processes * len(self.cluster.hosts))
        flags = json.loads(json.dumps(self._mode.flags).replace("{world}", world))
        distributed = {"process_count_per_node": self._processes, **flags} if self._mode.driver else {}
        return {
            "input/config/inputdataconfig.json": {"code": mode, "sm_drivers": mode},
            "input/config/hyperparameters.json": {key: str(value) for key, value in self._arguments.items()},
            "input/data/sm_drivers/sourcecode.json": {"source_dir": ".", "entry_script": "train.py"},
            "input/data/sm_drivers/distributed.json": distributed,
        }
