"""The checks: one function for each subject yields what is wrong, with the fix."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from lightning_sagemaker.doctor import network_checks
from lightning_sagemaker.doctor.machine import LIGHTNINGS, SHARED_MEMORY, TORCH
from lightning_sagemaker.doctor.settings import LEVELS, OF_COMMANDS, is_on, problem
from lightning_sagemaker.findings import Finding, finding
from lightning_sagemaker.job import in_training_job
from lightning_sagemaker.job.channels import dropped_rows
from lightning_sagemaker.settings import AUTOLOAD, ON_MISSING, PREFIX, RESUME, SETTINGS
from lightning_sagemaker.smddp.availability import advice, request_all_gather
from lightning_sagemaker.smddp.names import sharding_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_sagemaker.doctor.situation import Situation

    Check = Callable[[Situation], Iterator[Finding]]

_SMALL_SHARED_MEMORY = 2**30  # bytes; Docker's default is 64 MiB


def job(situation: Situation) -> Iterator[Finding]:
    """The job can be read."""
    if situation.problem:
        yield finding("job-malformed", "fail", situation.problem, "HINT: look at /opt/ml/input/config and SM_*.")
    elif situation.job is None:
        stray = in_training_job(situation.environ)
        text = (
            "variables of a training job are set, but there is no resourceconfig.json"
            if stray
            else "no variable of one is set"
        )
        yield finding(
            "outside-job",
            "ok",
            f"this process is in no SageMaker training job ({text}): the plugin does nothing here.",
            "HINT: `lightning-sagemaker simulate script.py` runs a script on this machine as a job would.",
        )


def installation(situation: Situation) -> Iterator[Finding]:
    """The packages import, and Lightning is there."""
    imports = situation.machine.imports
    torch_works = bool(imports.get(TORCH, {}).get("version"))
    for module in (TORCH, *(LIGHTNINGS if torch_works else ())):
        if problem := imports.get(module, {}).get("problem"):
            yield finding(
                f"import-{module}",
                "fail",
                f"importing {module} failed: {problem}",
                "HINT: install versions that fit each other; a torch other than the image's own breaks many images.",
            )
    if imports.get(TORCH, {}).get("absent"):
        yield finding(
            "torch-missing",
            "fail",
            "torch is not installed.",
            "HINT: use a PyTorch training image, or pip install torch.",
        )
    if all(imports.get(module, {}).get("absent") for module in LIGHTNINGS):
        yield finding(
            "lightning-missing",
            "fail",
            "neither `lightning` nor `pytorch_lightning` is installed.",
            "HINT: add `lightning` (or `pytorch-lightning`) to requirements.txt beside train.py.",
        )


def lightning(situation: Situation) -> Iterator[Finding]:
    """A Trainer and a Fabric can be made."""
    trainer, fabric = (situation.machine.imports.get(name, {}).get("problem") for name in ("trainer", "fabric"))
    told = situation.problem or "\0"  # by `job`; what the two say of it is nothing new
    fix = "HINT: look at the variables below; arguments in the script win."
    if trainer and told not in trainer:
        yield finding("trainer-raises", "fail", f"Trainer(): {trainer}", fix)
    if fabric and told not in fabric and fabric != trainer:
        yield finding("fabric-raises", "warn", f"Fabric(): {fabric}", fix)


def plugin(situation: Situation) -> Iterator[Finding]:
    """Torch loads the plugin."""
    machine, environ = situation.machine, situation.environ
    if machine.hooked is not False:
        return
    by_entry_point = bool(machine.imports[TORCH].get("autoloads"))
    if not is_on(AUTOLOAD, environ):
        yield finding(
            "autoload-off",
            "warn",
            f"the plugin is switched off: {AUTOLOAD}={environ[AUTOLOAD]}.",
            "HINT: remove it, or pass plugins=[SageMakerEnvironment()] and the number of hosts yourself.",
        )
    elif by_entry_point and environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD", "1") != "1":
        yield finding(
            "torch-autoload-off",
            "warn",
            "torch loads no plugins: TORCH_DEVICE_BACKEND_AUTOLOAD="
            f"{environ['TORCH_DEVICE_BACKEND_AUTOLOAD']}, so this one is not loaded.",
            "HINT: remove it, or begin the script with `import lightning_sagemaker`.",
        )
    elif by_entry_point or situation.job or not machine.pth:  # a .pth file does nothing outside jobs
        missing = "its entry point `torch.backends`" if by_entry_point else "`lightning_sagemaker.pth`"
        there = machine.entry_point if by_entry_point else machine.pth
        yield finding(
            "not-loaded",
            "fail" if situation.job else "warn",
            f"`import torch` does not load the plugin: {missing} {'does nothing' if there else 'is not installed'}.",
            "HINT: install it with pip from its wheel, or begin the script with `import lightning_sagemaker`.",
        )


def strategy(situation: Situation) -> Iterator[Finding]:
    """An SMDDP strategy has what it needs."""
    sharding = sharding_of(situation.strategy)
    if sharding is None:
        return
    asked = f"PL_TRAINER_STRATEGY={situation.strategy}"
    if obstacle := situation.smddp_obstacle:
        yield finding(
            "smddp-unusable",
            "warn",
            f"{asked}, but {obstacle}. NCCL or gloo is used, unless {ON_MISSING}=error ends the job.",
            'HINT: take strategy="ddp" or "fsdp", or an image (PyTorch up to 2.5.1), an instance type and a'
            " distribution that have SMDDP.",
        )
    environ = dict(situation.environ)
    if sharding == "sharded":
        request_all_gather(situation.job, environ)
    for line in advice(situation.job, sharding, environ):
        yield finding("smddp-advice", "warn", line, 'HINT: strategy="ddp" (or "fsdp") trains with NCCL.')


def gpus(situation: Situation) -> Iterator[Finding]:
    """The number of processes matches the GPUs."""
    machine, found = situation.machine, situation.job
    seen, visible = machine.gpus, situation.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = f" (CUDA_VISIBLE_DEVICES={visible!r})" if visible is not None else ""
    there = max(len(machine.driver_gpus or ()), (situation.number("SM_NUM_GPUS") or 0) if found else 0)
    if seen == 0 and there and not situation.simulated:  # a simulation says of any machine that it has GPUs
        yield finding(
            "gpus-unseen",
            "warn",
            f"this host has {there} GPU(s), but torch sees none{hidden}: training runs on the CPU.",
            "HINT: install a torch with CUDA, no newer than the driver (`nvidia-smi`), and look at"
            " CUDA_VISIBLE_DEVICES.",
        )
    if not seen or found is None or found.launcher == "none" or not found.local_world_size:
        return
    if found.local_world_size < seen:  # of too few GPUs the Trainer itself speaks
        yield finding(
            "gpus-idle",
            "warn",
            f"{found.launcher} started {found.local_world_size} process(es) on this host, but torch sees {seen} GPU(s)"
            f"{hidden}: {seen - found.local_world_size} of them stay idle.",
            "HINT: let the job's distribution start one process per GPU, and look at CUDA_VISIBLE_DEVICES.",
        )


def mpi4py(situation: Situation) -> Iterator[Finding]:
    """mpi4py, which SageMaker starts under mpirun, is installed."""
    found = situation.job
    if found is not None and found.sdk and found.launcher == "mpirun" and not situation.machine.versions.get("mpi4py"):
        yield finding(
            "mpi4py-missing",
            "fail",
            "SageMaker starts `python -m mpi4py` under mpirun, but mpi4py is not installed.",
            "HINT: add mpi4py to requirements.txt: PyTorch images from 2.11 on come without it.",
        )


def shared_memory(situation: Situation) -> Iterator[Finding]:
    """Data loaders and NCCL have enough shared memory."""
    size = situation.machine.shared_memory
    if size is not None and size < _SMALL_SHARED_MEMORY:
        yield finding(
            "shared-memory-small",
            "warn",
            f"{SHARED_MEMORY} has {size // 2**20} MiB: data loader workers and NCCL keep their buffers there, and die"
            " with 'bus error' when it is full.",
            "HINT: docker run --shm-size=8g; in SageMaker's local mode container_config.shm_size in"
            " ~/.sagemaker/config.yaml; or num_workers=0.",
        )


def channels(situation: Situation) -> Iterator[Finding]:
    """Hosts that train together see the same data."""
    if situation.channel_problem:
        yield finding("channels-malformed", "warn", situation.channel_problem)
    elif situation.sharded and situation.job is not None and situation.job.num_nodes > 1:
        yield finding("channels-sharded", "warn", dropped_rows(situation.sharded, situation.job.num_nodes))


def settings(situation: Situation) -> Iterator[Finding]:
    """This package's settings can be read."""
    for name, value in sorted(situation.environ.items()):
        setting = SETTINGS.get(name)
        if setting and value and (text := problem(name, situation.environ)):
            fix = f"HINT: leave {name} out for the default, {setting.default}."
            yield finding("setting-malformed", LEVELS.get(name, "fail"), text, fix)
        elif setting is None and name.startswith(PREFIX) and not name.startswith(tuple(OF_COMMANDS)):
            similar = difflib.get_close_matches(name, SETTINGS, 1) or sorted(SETTINGS)
            yield finding(
                "setting-unknown", "warn", f"{name} is not a setting of this version.", f"HINT: {similar[0]}?"
            )


def checkpoints(situation: Situation) -> Iterator[Finding]:
    """A job that should resume has a checkpoint folder."""
    machine = situation.machine
    if machine.checkpoint_problem:
        yield finding("checkpoints-unreadable", "fail", machine.checkpoint_problem, "HINT: look at the job's folder.")
    elif is_on(RESUME, situation.environ) and situation.job and not machine.checkpoint_folder:
        yield finding(
            "nothing-to-resume",
            "warn",
            f"{RESUME}=1, but the job has no checkpoint folder: training starts from the beginning.",
            "HINT: give the job a checkpoint configuration (SDK v2: checkpoint_s3_uri=..., v3: checkpoint_config=...).",
        )


CHECKS: tuple[Check, ...] = (
    job,
    installation,
    lightning,
    plugin,
    strategy,
    gpus,
    network_checks.addresses,
    network_checks.efa,
    mpi4py,
    shared_memory,
    channels,
    settings,
    checkpoints,
)
