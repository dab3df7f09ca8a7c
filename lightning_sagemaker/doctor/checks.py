"""The checks: one function for each subject yields what is wrong, with the fix."""

from __future__ import annotations

import difflib
import ipaddress
import re
from typing import TYPE_CHECKING

from lightning_sagemaker.distributed.interface import VARIABLES, has_interface
from lightning_sagemaker.doctor.situation import LIGHTNINGS, OF_COMMANDS, SHARED_MEMORY, TORCH, is_on, problem
from lightning_sagemaker.findings import Finding, fail, finding, ok, warn
from lightning_sagemaker.instances import instance
from lightning_sagemaker.job import in_training_job
from lightning_sagemaker.job.channels import dropped_rows
from lightning_sagemaker.settings import AUTOLOAD, DISABLE, ON_MISSING, PREFIX, RESUME, SETTINGS
from lightning_sagemaker.simulate.toolkit import EFA_TYPES
from lightning_sagemaker.smddp.availability import advice, launcher_problem, request_all_gather, sharding_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_sagemaker.doctor.situation import Situation

    Check = Callable[[Situation], Iterator[Finding]]

_SMALL_SHARED_MEMORY = 2**30  # bytes; Docker's default is 64 MiB


def job(situation: Situation) -> Iterator[Finding]:
    """The job can be read."""
    if situation.problem:
        yield fail("job-malformed", situation.problem, "HINT: look at /opt/ml/input/config and SM_*.")
    elif situation.job is None:
        marks = "variables of a training job are set, but there is no resourceconfig.json"
        marks = marks if in_training_job(situation.environ) else "no variable of one is set"
        yield ok(
            "outside-job",
            f"this process is in no SageMaker training job ({marks}): the plugin does nothing here. HINT:"
            " `lightning-sagemaker simulate script.py` runs a script on this machine as a job would.",
        )


def installation(situation: Situation) -> Iterator[Finding]:
    """The packages import, and Lightning is there."""
    imports = situation.machine.imports
    torch_works = bool(imports.get(TORCH, {}).get("version"))
    fix = "HINT: install versions that fit each other; a torch other than the image's own breaks many images."
    for module in (TORCH, *(LIGHTNINGS if torch_works else ())):
        if problem := imports.get(module, {}).get("problem"):
            yield fail(f"import-{module}", f"importing {module} failed: {problem}", fix)
    if imports.get(TORCH, {}).get("absent"):
        text = "torch is not installed. HINT: use a PyTorch training image, or pip install torch."
        yield fail("torch-missing", text)
    if all(imports.get(module, {}).get("absent") for module in LIGHTNINGS):
        yield fail(
            "lightning-missing",
            "neither `lightning` nor `pytorch_lightning` is installed. HINT: add `lightning` (or `pytorch-lightning`)"
            " to requirements.txt beside train.py.",
        )


def lightning(situation: Situation) -> Iterator[Finding]:
    """A Trainer and a Fabric can be made."""
    trainer, fabric = (situation.machine.imports.get(name, {}).get("problem") for name in ("trainer", "fabric"))
    told = situation.problem or "\0"  # by `job`; what the two say of it is nothing new
    fix = "HINT: look at the variables below; arguments in the script win."
    if trainer and told not in trainer:
        yield fail("trainer-raises", f"Trainer(): {trainer}", fix)
    if fabric and told not in fabric and fabric != trainer:
        yield warn("fabric-raises", f"Fabric(): {fabric}", fix)


def plugin(situation: Situation) -> Iterator[Finding]:
    """Torch loads the plugin."""
    machine, environ = situation.machine, situation.environ
    if machine.imports.get(TORCH, {}).get("hooked") is not False:  # where torch cannot be imported, nobody knows
        return
    by_entry_point = bool(machine.imports[TORCH].get("autoloads"))
    if not is_on(AUTOLOAD, environ):
        yield warn(
            "autoload-off",
            f"the plugin is switched off: {AUTOLOAD}={environ[AUTOLOAD]}. HINT: remove it, or pass"
            " plugins=[SageMakerEnvironment()] and the number of hosts yourself.",
        )
    elif by_entry_point and environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD", "1") != "1":
        yield warn(
            "torch-autoload-off",
            f"torch loads no plugins: TORCH_DEVICE_BACKEND_AUTOLOAD={environ['TORCH_DEVICE_BACKEND_AUTOLOAD']}, so this"
            " one is not loaded. HINT: remove it, or begin the script with `import lightning_sagemaker`.",
        )
    elif by_entry_point or situation.job or not machine.pth:  # a .pth file does nothing outside jobs
        missing = "its entry point `torch.backends`" if by_entry_point else "`lightning_sagemaker.pth`"
        there = machine.entry_point if by_entry_point else machine.pth
        yield finding(
            "not-loaded",
            "fail" if situation.job else "warn",
            f"`import torch` does not load the plugin: {missing} {'does nothing' if there else 'is not installed'}."
            " HINT: install it with pip from its wheel, or begin the script with `import lightning_sagemaker`.",
        )


def strategy(situation: Situation) -> Iterator[Finding]:
    """An SMDDP strategy has what it needs."""
    asked = situation.environ.get("PL_TRAINER_STRATEGY")
    sharding = sharding_of(asked)
    if sharding is None:
        return
    if obstacle := situation.machine.smddp_problem or launcher_problem(situation.job):
        yield warn(
            "smddp-unusable",
            f"PL_TRAINER_STRATEGY={asked}, but {obstacle}. NCCL or gloo is used, unless {ON_MISSING}=error"
            " ends the job.",
            'HINT: take strategy="ddp" or "fsdp", or an image (PyTorch up to 2.5.1), an instance type and a'
            " distribution that have SMDDP.",
        )
    environ = dict(situation.environ)
    if sharding == "sharded":
        request_all_gather(situation.job, environ)
    for line in advice(situation.job, sharding, environ):
        yield warn("smddp-advice", line, 'HINT: strategy="ddp" (or "fsdp") trains with NCCL.')


def gpus(situation: Situation) -> Iterator[Finding]:
    """The number of processes matches the GPUs."""
    machine, found = situation.machine, situation.job
    seen, visible = machine.gpus, situation.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = f" (CUDA_VISIBLE_DEVICES={visible!r})" if visible is not None else ""
    told = re.fullmatch("[0-9]{1,9}", situation.environ.get("SM_NUM_GPUS", ""))
    there = max(len(machine.driver_gpus or ()), int(told[0]) if found and told else 0)
    if seen == 0 and there and not situation.simulated:  # a simulation says of any machine that it has GPUs
        yield warn(
            "gpus-unseen",
            f"this host has {there} GPU(s), but torch sees none{hidden}: training runs on the CPU. HINT: install a"
            " torch with CUDA, no newer than the driver (`nvidia-smi`), and look at CUDA_VISIBLE_DEVICES.",
        )
    if not seen or found is None or found.launcher == "none" or not found.local_world_size:
        return
    if found.local_world_size < seen:  # of too few GPUs the Trainer itself speaks
        yield warn(
            "gpus-idle",
            f"{found.launcher} started {found.local_world_size} process(es) on this host, but torch sees {seen} GPU(s)"
            f"{hidden}: {seen - found.local_world_size} of them stay idle. HINT: let the job's distribution start one"
            " process per GPU, and look at CUDA_VISIBLE_DEVICES.",
        )


def addresses(situation: Situation) -> Iterator[Finding]:
    """The hosts can connect: main address and interfaces."""
    found, interfaces = situation.job, situation.machine.interfaces
    if found is not None and situation.over_network and _is_loopback(found.main_address):
        yield fail(
            "main-address-loopback",
            f"{found.num_nodes} hosts train together, but the main address is {found.main_address}: each would wait for"
            " itself. HINT: remove MASTER_ADDR from the job's environment and from your entry script: it comes from the"
            " job.",
        )
    for variable in VARIABLES:
        chosen = situation.environ.get(variable, "")
        if not has_interface(variable, chosen, interfaces):
            yield finding(
                "no-such-interface",
                "fail" if found is not None and found.num_nodes > 1 else "warn",
                f"{variable}={chosen}, but this host has the interfaces {', '.join(interfaces)}.",
                "HINT: remove it from the job's environment: SageMaker's own choice is right.",
            )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def efa(situation: Situation) -> Iterator[Finding]:
    """EFA is used where the instance has it."""
    found, environ, devices = situation.job, situation.environ, situation.machine.efa_devices
    if found is None or not situation.over_network:
        return
    known, provider = instance(found.instance_type or ""), environ.get("FI_PROVIDER")
    if known is not None and known.efa and not devices:
        yield warn(
            "efa-missing",
            f"{found.instance_type} has EFA, but no EFA device is in /sys/class/infiniband: NCCL uses TCP.",
            "HINT: use an AWS training image, and look at the instance type's availability of EFA in your region.",
        )
    elif provider == "efa" and not devices:
        yield warn(
            "efa-missing",
            f"FI_PROVIDER=efa, but {found.instance_type or 'this host'} has no EFA device: NCCL uses TCP.",
            "HINT: nothing to do if you meant TCP (SageMaker's toolkit sets it in `smdistributed` jobs whatever the"
            " instance type); else choose an instance type with EFA.",
        )
    unused = {"FI_PROVIDER": (provider or "efa") != "efa", "NCCL_NET": environ.get("NCCL_NET", "").lower() == "socket"}
    for variable in (name for name, found_so in unused.items() if found_so and devices):
        yield warn(
            "efa-unused",
            f"this host has EFA, but {variable}={environ[variable]}, so NCCL does not use it.",
            f"HINT: remove {variable} from the job's environment.",
        )
    # What the toolkit's own list says, which is shorter than the list of types with EFA.
    if found.instance_type in EFA_TYPES and not provider and found.sdk and found.launcher in ("mpirun", "torchrun"):
        yield warn(
            "efa-provider-unset",
            f"FI_PROVIDER is not set, but SageMaker sets it to efa for {found.launcher} on {found.instance_type}.",
            "HINT: do not filter variables between launcher and script; see in NCCL_DEBUG=INFO that NCCL chose EFA.",
        )


def mpi4py(situation: Situation) -> Iterator[Finding]:
    """mpi4py, which SageMaker starts under mpirun, is installed."""
    found = situation.job
    if found is not None and found.sdk and found.launcher == "mpirun" and not situation.machine.versions.get("mpi4py"):
        yield fail(
            "mpi4py-missing",
            "SageMaker starts `python -m mpi4py` under mpirun, but mpi4py is not installed. HINT: add mpi4py to"
            " requirements.txt: PyTorch images from 2.11 on come without it.",
        )


def shared_memory(situation: Situation) -> Iterator[Finding]:
    """Data loaders and NCCL have enough shared memory."""
    size = situation.machine.shared_memory
    if size is not None and size < _SMALL_SHARED_MEMORY:
        yield warn(
            "shared-memory-small",
            f"{SHARED_MEMORY} has {size // 2**20} MiB: data loader workers and NCCL keep their buffers there, and die"
            " with 'bus error' when it is full. HINT: docker run --shm-size=8g; in SageMaker's local mode"
            " container_config.shm_size in ~/.sagemaker/config.yaml; or num_workers=0.",
        )


def channels(situation: Situation) -> Iterator[Finding]:
    """Hosts that train together see the same data."""
    if situation.channel_problem:
        yield warn("channels-malformed", situation.channel_problem)
    elif situation.sharded and situation.job is not None and situation.job.num_nodes > 1:
        yield warn("channels-sharded", dropped_rows(situation.sharded, situation.job.num_nodes))


def settings(situation: Situation) -> Iterator[Finding]:
    """This package's settings can be read."""
    for name, value in sorted(situation.environ.items()):
        setting = SETTINGS.get(name)
        if setting and value and (text := problem(name, situation.environ)):
            fix = f"HINT: leave {name} out for the default, {setting.default}."
            # What these two would switch off stays on where they cannot be read.
            yield finding("setting-malformed", "warn" if name in (AUTOLOAD, DISABLE) else "fail", text, fix)
        elif setting is None and name.startswith(PREFIX) and not name.startswith(tuple(OF_COMMANDS)):
            similar = difflib.get_close_matches(name, SETTINGS, 1) or sorted(SETTINGS)
            yield warn("setting-unknown", f"{name} is not a setting of this version.", f"HINT: {similar[0]}?")


def checkpoints(situation: Situation) -> Iterator[Finding]:
    """A job that should resume has a checkpoint folder."""
    machine = situation.machine
    if machine.checkpoint_problem:
        yield fail("checkpoints-unreadable", machine.checkpoint_problem, "HINT: look at the job's folder.")
    elif is_on(RESUME, situation.environ) and situation.job and not machine.checkpoint_folder:
        yield warn(
            "nothing-to-resume",
            f"{RESUME}=1, but the job has no checkpoint folder: training starts from the beginning. HINT: give the job"
            " a checkpoint configuration (SDK v2: checkpoint_s3_uri=..., v3: checkpoint_config=...).",
        )


CHECKS: tuple[Check, ...] = (
    *(job, installation, lightning, plugin, strategy, gpus, addresses, efa, mpi4py, shared_memory, channels, settings),
    checkpoints,
)
