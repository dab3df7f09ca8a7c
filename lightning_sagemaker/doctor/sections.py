"""The sections of the report: the facts, by subject."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_sagemaker.changes import CHANGES, disabled
from lightning_sagemaker.doctor.situation import LIGHTNINGS, OF_COMMANDS, SMDDP, TORCH, is_on
from lightning_sagemaker.job import in_training_job
from lightning_sagemaker.job.launchers import recognised_by
from lightning_sagemaker.redaction import is_credential
from lightning_sagemaker.settings import AUTOLOAD, DISABLE, ON_MISSING, PREFIX, SETTINGS
from lightning_sagemaker.smddp.availability import INSTANCE_TYPES, OPTIMIZE_ALL_GATHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lightning_sagemaker.changes import Change
    from lightning_sagemaker.doctor.situation import Situation

Value = str | int | tuple[str, ...] | None  # a bool is an int

_UNREADABLE = "unknown, see the findings"
_OUTSIDE = "not in a SageMaker training job"
_GIB = 2**30
# Of the variables that launchers, Lightning, NCCL and libfabric read: those that are printed with their values.
_RELATED = re.compile(
    r"""
      (FI | GLOO | LT | NCCL | OMPI_COMM_WORLD | PL | SMDATAPARALLEL | TORCHELASTIC | TORCH_NCCL)_\w+
    | (GROUP_ | LOCAL_ | NODE_ | ROLE_)? RANK | (GROUP_ | LOCAL_ | ROLE_)? WORLD_SIZE | MASTER_(ADDR|PORT)
    | CUDA_VISIBLE_DEVICES | NVIDIA_VISIBLE_DEVICES | OMP_NUM_THREADS | RDMAV_FORK_SAFE | SLURM_NTASKS
    | TORCH_DEVICE_BACKEND_AUTOLOAD | CURRENT_HOST | TRAINING_JOB_NAME | SAGEMAKER_(BASE_DIR|INSTANCE_TYPE|JOB_NAME)
    | SM_(CURRENT_HOST|CURRENT_HOST_RANK|CURRENT_INSTANCE_GROUP|CURRENT_INSTANCE_TYPE|DISTRIBUTION_INSTANCE_GROUPS)
    | SM_(DLC_TORCH_VERSION|HOSTS|HOST_COUNT|IS_HETERO|MASTER_ADDR|MASTER_PORT|NETWORK_INTERFACE_NAME)
    | SM_NUM_(CPUS|GPUS|NEURONS)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Fact:
    """Something that was seen or follows, and why it is so, or why nothing is known."""

    name: str  # a stable key
    value: Value  # None where it is unknown or absent
    why: str = ""


def _known(name: str, value: Value, absent: str) -> Fact:
    """A fact, or the reason why it is unknown."""
    return Fact(name, value, absent if value is None else "")


def versions(situation: Situation) -> Iterator[Fact]:
    """Package and versions."""
    machine = situation.machine
    for name, version in machine.versions.items():
        yield _known(name, version, "not installed")
    for module in (TORCH, *LIGHTNINGS):
        found = machine.imports.get(module, {})
        problem = "not installed" if found.get("absent") else found.get("problem", "not tried")
        yield _known(f"import {module}", found.get("version"), problem)
    for name in ("cuda", "nccl"):
        yield _known(f"torch's {name}", machine.imports.get(TORCH, {}).get(name), "none")


def job(situation: Situation) -> Iterator[Fact]:
    """Job."""
    environ, found, resources = situation.environ, situation.job, situation.resources
    if resources is None:
        stray = "variables of a training job are set, but there is no resourceconfig.json"
        outside = stray if in_training_job(environ) else _OUTSIDE
        yield Fact("name", None, _UNREADABLE if situation.problem else outside)
        return
    yield _known("name", environ.get("TRAINING_JOB_NAME") or environ.get("SAGEMAKER_JOB_NAME"), "unknown")
    if found:
        yield _known("sdk", found.sdk, "unknown: the image's own entry point")
        yield Fact("launcher", found.launcher, recognised_by(found.launcher))
    else:
        yield Fact("launcher", None, _UNREADABLE)
    yield Fact("hosts", resources.hosts)
    yield Fact("current_host", resources.current_host)
    yield _known("instance_type", resources.instance_type, "unknown")
    yield _known("instance_group", resources.instance_group, "none")


def world(situation: Situation) -> Iterator[Fact]:
    """World."""
    found = situation.job
    if found is None:
        yield Fact("num_nodes", None, _UNREADABLE if situation.problem else _OUTSIDE)
    else:
        later = "unknown until Lightning has started the processes of this host"
        yield Fact("world_hosts", found.world_hosts, "in the order of node ranks")
        yield Fact("num_nodes", found.num_nodes)
        yield Fact("node_rank", found.node_rank)
        yield _known("world_size", found.world_size, later)
        yield _known("rank", found.rank, later)
        yield _known("local_world_size", found.local_world_size, "unknown: the job reports no GPUs")
        yield Fact("local_rank", found.local_rank)
        yield Fact("main_address", found.main_address)
        yield Fact("main_port", found.main_port)
        yield _known("network_interface", found.network_interface, "unknown")
    yield Fact("interfaces", situation.machine.interfaces, "of this host")


def hardware(situation: Situation) -> Iterator[Fact]:
    """Hardware."""
    machine = situation.machine
    yield Fact("gpus", machine.gpus, "that torch sees" if machine.gpus is not None else "unknown without torch")
    yield _known("driver_gpus", machine.driver_gpus, "unknown: no nvidia-smi")
    yield _known("efa_devices", machine.efa_devices or None, "none")
    size = machine.shared_memory
    yield Fact("shared_memory", size, "there is no /dev/shm" if size is None else f"bytes, {size / _GIB:.1f} GiB")


def smddp(situation: Situation) -> Iterator[Fact]:
    """SMDDP."""
    found, machine = situation.job, situation.machine
    yield Fact("library", machine.imports.get(SMDDP, {}).get("version"), machine.smddp_problem or "")
    yield Fact("instance_types", INSTANCE_TYPES, "what it supports")
    all_gather = situation.environ.get(OPTIMIZE_ALL_GATHER, "").lower() == "true"
    collective, why = {
        "mpirun": ("AllReduce", 'mpirun: DDP is served; strategy="smddp_fsdp" turns AllGather on'),
        "torchrun": ("AllGather", "torchrun: FSDP is served, AllReduce falls back to NCCL"),
    }.get(found.launcher if found else "", (None, "none: it works under mpirun and torchrun only"))
    if collective == "AllReduce" and all_gather:
        collective, why = "AllReduce, AllGather", f"mpirun with {OPTIMIZE_ALL_GATHER}=true"
    yield Fact("collectives", collective, why)
    policy = situation.environ.get(ON_MISSING)
    yield Fact("on_missing", policy or "native", ON_MISSING if policy else "the default: NCCL or gloo, with a warning")


def lightning(situation: Situation) -> Iterator[Fact]:
    """What Lightning does: a Trainer and a Fabric were made, as the environment describes them."""
    trainer = situation.machine.imports.get("trainer", {})
    for name, prefix in (("trainer", ""), ("fabric", "fabric_")):
        made = situation.machine.imports.get(name, {})
        if not made.get("facts"):
            yield Fact(name, None, made.get("problem") or made.get("unknown", "unknown: torch cannot be imported"))
        elif name == "fabric" and made == trainer:
            yield Fact("fabric", "the same")
        else:
            yield from (_known(f"{prefix}{key}", value, "none: one process") for key, value in made["facts"].items())


def settings(situation: Situation) -> Iterator[Fact]:
    """Settings of this package."""
    environ = situation.environ
    for setting in SETTINGS.values():
        value = environ.get(setting.name) or None
        yield Fact(setting.name, value or setting.default, f"{'set' if value else 'default'}; {setting.meaning}")
    for name in sorted(environ):
        whose = next((whose for prefix, whose in OF_COMMANDS.items() if name.startswith(prefix)), None)
        if whose is not None:
            yield Fact(name, environ[name], whose)
        elif name.startswith(PREFIX) and name not in SETTINGS:
            yield Fact(name, None, "set, but this version does not know it")


def changes(situation: Situation) -> Iterator[Fact]:
    """Changes of Lightning's behaviour."""
    for change in CHANGES:
        reason = _off(change, situation)
        yield Fact(change.name, "off" if reason else "on", reason or f"{change.when}: {change.ours}")


def _off(change: Change, situation: Situation) -> str:
    """Why a change is off in this process; empty if it is on."""
    environ, found = situation.environ, situation.job
    if not is_on(AUTOLOAD, environ):
        return f"{AUTOLOAD}={environ[AUTOLOAD]}"
    try:
        if change.name in disabled(environ):
            return f"{DISABLE}={environ[DISABLE]}"
    except ValueError:  # a finding of its own: nothing is switched off
        pass
    if change.scope != "always" and found is None:
        return _UNREADABLE if situation.problem else _OUTSIDE
    if found and {"processes": found.world_size, "hosts": found.num_nodes}.get(change.scope) == 1:
        return f"only {change.when}"
    value = environ.get(change.variable, "")
    if change.opt_in:
        asked = value.strip() in change.values or is_on(change.variable, environ)
        return "" if asked else f"{change.variable} is not set"
    return f"{change.variable}={value}" if value.strip() in ("0", "0.0") else ""


def variables(situation: Situation) -> Iterator[Fact]:
    """Variables of launchers, Lightning and libraries."""
    for name, value in sorted(situation.environ.items()):
        if _RELATED.fullmatch(name) and not is_credential(name):
            yield Fact(name, value)


def credentials(situation: Situation) -> Iterator[Fact]:
    """Credentials."""
    names = tuple(sorted(name for name in situation.environ if is_credential(name)))
    yield Fact("names", names or None, "values are never printed" if names else "none")


def checkpoints(situation: Situation) -> Iterator[Fact]:
    """Checkpoints."""
    machine = situation.machine
    nowhere = machine.checkpoint_problem or "none"
    yield _known("folder", machine.checkpoint_folder, nowhere)
    yield _known("newest", machine.newest_checkpoint, nowhere)


_TITLES = {"smddp": "SMDDP", "lightning": "What Lightning does", "changes": "Changes of Lightning's behaviour"}
_ALL = (versions, job, world, hardware, smddp, lightning, settings, changes, variables, credentials, checkpoints)
# By key: headline, and what makes the facts.
SECTIONS: Mapping[str, tuple[str, Callable[[Situation], Iterator[Fact]]]] = {
    look.__name__: (_TITLES.get(look.__name__, look.__name__.capitalize()), look) for look in _ALL
}
