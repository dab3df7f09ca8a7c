"""Where a worker's environment begins: the caller's, cleaned, and what the platform and this simulation add.

Differences between a simulated host and a real one that cannot be avoided, all of them:

===========================  ===================  =====================  ===============================================
what                         real                 simulated              because
===========================  ===================  =====================  ===============================================
addresses of hosts           ``algo-N``           ``127.0.0.1``          such names resolve on no laptop without root
(MASTER_ADDR, SM_MASTER_ADDR, SMDATAPARALLEL_SERVER_ADDR)
port                         7777                 a free one             two simulations must not meet
(MASTER_PORT, SM_MASTER_PORT)
base folder                  ``/opt/ml``          SAGEMAKER_BASE_DIR     several hosts on one machine, no root
network interface            ``eth0``             loopback               every host is this machine
GLOO_SOCKET_IFNAME           unset                loopback               gloo asks the host's name for its address
CUDA_VISIBLE_DEVICES         unset                the host's GPUs        hosts share one machine's GPUs
TMPDIR                       unset                the host's own         ``/tmp`` may be the machine's (own_disk.py)
PYTHONUNBUFFERED             1 (set by images)    1                      lines appear as they are printed
TRAINING_JOB_ARN             set                  unset                  local mode has none either; this is not AWS
LIGHTNING_SAGEMAKER_...      unset                a random word          the end of a container ends all that is in it
LD_PRELOAD                   gethostname.so       unset                  it reads a fixed path under ``/opt/ml``
===========================  ===================  =====================  ===============================================
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.environment import RANK_PROCESS
from lightning_sagemaker.simulate.container import INTERFACE, Cluster
from lightning_sagemaker.simulate.processes import MARK

if TYPE_CHECKING:
    from lightning_sagemaker.simulate.spec import Simulation

FAKE_SMDDP = Path(__file__).with_name("fake_smddp")  # for the folder of an image's SMDDP library

# Set by launchers, schedulers and SageMaker. A simulation started inside one of them must not inherit its world.
_FOREIGN_PREFIXES = (
    *("HYDRA_", "JSM_", "LSB_", "OMPI_", "PBS_", "PET_", "PMIX_", "PMI_", "PRTE_", "SAGEMAKER_", "SLURM_"),
    *("SMDATAPARALLEL_", "SM_", "SRUN_", "TORCHELASTIC_", "TRAINING_JOB_"),
)
_FOREIGN_NAMES = (
    RANK_PROCESS,  # of a rank that starts a simulation
    *("CURRENT_HOST", "GROUP_RANK", "GROUP_WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("NODE_RANK", "PYTHON_EXEC", "RANK", "ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE", "WORLD_SIZE"),
)


def container_environment(cluster: Cluster, host: str, devices: str) -> dict[str, str]:
    """The environment in which a host's container starts: ours, without what launchers, schedulers or SageMaker set."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _FOREIGN_NAMES and not name.startswith(_FOREIGN_PREFIXES)
    }
    if "PYTHONPATH" in environment:
        # The worker starts in another folder.
        parts = [os.path.abspath(part) for part in environment["PYTHONPATH"].split(os.pathsep) if part]  # noqa: PTH100
        environment["PYTHONPATH"] = os.pathsep.join(parts)
    environment |= {"PYTHONUNBUFFERED": "1", **cluster.job.environment}
    if cluster.job.has_smddp:  # installed in the image: after whatever the user puts on the path
        for name, folder in (("PYTHONPATH", FAKE_SMDDP), ("PATH", FAKE_SMDDP / "bin")):
            environment[name] = os.pathsep.join(part for part in (environment.get(name), str(folder)) if part)
    return {
        **environment,
        MARK: cluster.mark,
        "TRAINING_JOB_NAME": cluster.name,
        "SAGEMAKER_BASE_DIR": str(cluster.base(host)),
        "TMPDIR": str(cluster.temporary(host)),
        "GLOO_SOCKET_IFNAME": INTERFACE,
        "CUDA_VISIBLE_DEVICES": devices,
    }


def share_devices(job: Simulation) -> dict[str, str] | None:
    """``CUDA_VISIBLE_DEVICES`` of each host, a part of ours; None where there are fewer GPUs than ranks."""
    devices = [str(index) for index in range(_count_gpus())]
    if devices and "CUDA_VISIBLE_DEVICES" in os.environ:
        devices = [device for device in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if device]
    each = job.processes_per_host
    if len(devices) < job.hosts * each:
        return None
    return {host: ",".join(devices[i * each : (i + 1) * each]) for i, host in enumerate(job.host_names)}


def _count_gpus() -> int:
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    try:
        listing = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())
