"""Every way SageMaker launches a script: what each process of each world sees, and where it stands.

One row of ``MODES`` is one job. Its environments are those of the sagemaker-training toolkit 5.1 (v2), of the container
drivers of SageMaker's Python SDK 3.27 (v3), of torchrun, Open MPI and ``smddprun``, built here from their documented
behaviour and not by anything under test. The order of hosts, the main address and the port of a world are written out
in its row, and ranks follow from the order of its hosts.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from lightning_sagemaker.job import SageMakerJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lightning_sagemaker.job import Launcher

NAME = "digits-2026-11-21-00-31-07-402"
ONE = ("algo-1",)
TWO = ("algo-1", "algo-2")
THREE = ("algo-1", "algo-2", "algo-3")
ELEVEN = tuple(sorted(f"algo-{number}" for number in range(1, 12)))  # algo-1, algo-10, algo-11, algo-2, ...
THOUSAND = tuple(sorted(f"algo-{number}" for number in range(1, 1001)))
LOCAL = ("algo-1-k3x9d", "algo-2-k3x9d")  # local mode of SDK v2
DEFAULT_GROUP = "homogeneousCluster"
INSTANCE_TYPES = {DEFAULT_GROUP: "ml.p4d.24xlarge", "gpu": "ml.p4d.24xlarge", "cpu": "ml.c5.9xlarge"}
_NAMESPACE = "prterun-algo-7@1"  # of Open MPI 5: host and pid


@dataclass(frozen=True)
class World:
    """Processes that train together.

    Attributes:
        hosts: In the order of node ranks.
        layers: What set their variables, in that order.
        processes: Per host, of the launcher; without one, that Lightning is to start: what the job says of devices.
        accelerators: ``SM_NUM_GPUS`` and ``SM_NUM_NEURONS``.
        distribution: Instance groups that the ``distribution=`` of SDK v2 covers, as these hosts are told.
        lost: Beginnings of the names of variables that these processes do not get.
    """

    hosts: tuple[str, ...]
    launcher: Launcher
    main_address: str
    layers: tuple[Callable[[Process], Mapping[str, str]], ...]
    main_port: int = 7777
    processes: int | None = 8
    accelerators: tuple[int, int] = (8, 0)
    distribution: tuple[str, ...] = (DEFAULT_GROUP,)
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mode:
    """A job, by its hosts as ``resourceconfig.json`` lists them, and its worlds; no groups in local mode."""

    sdk: Literal["v2", "v3"] | None
    hosts: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    worlds: tuple[World, ...]

    def process(self, host: str, local_rank: int = 0) -> Process:
        """One process of the job."""
        return next(Process(self, world, host, local_rank) for world in self.worlds if host in world.hosts)

    def processes(self) -> Iterator[Process]:
        """All processes that SageMaker and its launcher start."""
        for world in self.worlds:
            for host in world.hosts:
                for local_rank in range(1 if world.launcher == "none" else world.processes or 1):
                    yield Process(self, world, host, local_rank)


@dataclass(frozen=True)
class Process:
    """One process of a job."""

    mode: Mode
    world: World
    host: str
    local_rank: int

    @property
    def node_rank(self) -> int:
        return self.world.hosts.index(self.host)

    @property
    def rank(self) -> int:
        return self.node_rank * (self.world.processes or 1) + self.local_rank

    @property
    def size(self) -> int:
        return len(self.world.hosts) * (self.world.processes or 1)

    @property
    def group(self) -> str | None:
        """Name of the host's instance group."""
        return next((name for name, members in self.mode.groups.items() if self.host in members), None)

    @property
    def instance_type(self) -> str:
        return INSTANCE_TYPES[self.group] if self.group else "local_gpu"

    @property
    def config(self) -> dict[str, Any]:
        """Content of the host's ``resourceconfig.json``."""
        config = {
            "current_host": self.host,
            "current_instance_type": self.instance_type,
            "hosts": list(self.mode.hosts),
            "network_interface_name": "eth0",
        }
        if self.group is None:
            return config
        groups = [
            {"instance_group_name": name, "instance_type": INSTANCE_TYPES[name], "hosts": list(members)}
            for name, members in self.mode.groups.items()
        ]
        return {**config, "current_group_name": self.group, "instance_groups": groups}

    @property
    def environ(self) -> dict[str, str]:
        """The process's environment."""
        environ = {"PATH": "/usr/bin:/bin", "HOME": "/root", "AWS_REGION": "eu-west-1"}
        for layer in self.world.layers:
            environ |= layer(self)
        return {name: value for name, value in environ.items() if not name.startswith(self.world.lost)}

    @property
    def expected(self) -> SageMakerJob:
        """What the process must find."""
        launched = self.world.launcher != "none"
        return SageMakerJob(
            name=NAME,
            sdk=self.mode.sdk,
            launcher=self.world.launcher,
            hosts=self.mode.hosts,
            world_hosts=self.world.hosts,
            current_host=self.host,
            instance_type=self.instance_type,
            instance_group=self.group,
            network_interface="eth0",
            num_nodes=len(self.world.hosts),
            node_rank=self.node_rank,
            local_world_size=self.world.processes,
            local_rank=self.local_rank,
            rank=self.rank if launched else None,
            world_size=self.size if launched else None,
            main_address=self.world.main_address,
            main_port=self.world.main_port,
        )


# --- layers: who sets what -------------------------------------------------------------------------------------------


def platform(_: Process) -> dict[str, str]:
    """SageMaker itself."""
    return {"TRAINING_JOB_NAME": NAME, "TRAINING_JOB_ARN": f"arn:aws:sagemaker:eu-west-1:111122223333:job/{NAME}"}


def local_mode(_: Process) -> dict[str, str]:
    """Local mode of either SDK, which sets no ARN."""
    return {"TRAINING_JOB_NAME": NAME}


def toolkit(process: Process) -> dict[str, str]:
    """The sagemaker-training toolkit with its PyTorch module, on the process's own host."""
    mode, world, config = process.mode, process.world, process.config
    covered = [host for name, members in mode.groups.items() if name in world.distribution for host in members]
    leader = covered[0] if covered else mode.hosts[0]
    described = {
        "HOSTS": mode.hosts,
        "CURRENT_HOST": process.host,
        "CURRENT_INSTANCE_TYPE": process.instance_type,
        "CURRENT_INSTANCE_GROUP": process.group or DEFAULT_GROUP,
        "CURRENT_INSTANCE_GROUP_HOSTS": mode.groups.get(process.group or "", ()),
        "INSTANCE_GROUPS": list(mode.groups),
        "INSTANCE_GROUPS_DICT": {group["instance_group_name"]: group for group in config.get("instance_groups", ())},
        "DISTRIBUTION_INSTANCE_GROUPS": world.distribution,
        "IS_HETERO": len(mode.groups) > 1,
        "NUM_CPUS": 96,
        "NUM_GPUS": world.accelerators[0],
        "NUM_NEURONS": world.accelerators[1],
        "NETWORK_INTERFACE_NAME": "eth0",
        "RESOURCE_CONFIG": config,
        "HPS": {"epochs": 3},
        "HP_EPOCHS": 3,
        "USER_ARGS": ["--epochs", "3"],
        "TRAINING_ENV": {"current_host": process.host, "hosts": mode.hosts, "hyperparameters": {"epochs": 3}},
    }
    return {
        "SAGEMAKER_JOB_NAME": NAME,
        "CURRENT_HOST": process.host,
        **{
            f"SM_{name}": value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
            for name, value in described.items()
        },
        "MASTER_ADDR": leader,
        "MASTER_PORT": "7777",
    }


def drivers(process: Process) -> dict[str, str]:
    """The container drivers of SDK v3."""
    hosts = sorted(process.mode.hosts)
    described = {
        "MASTER_ADDR": "algo-1",
        "MASTER_PORT": 7777,
        "HOSTS": hosts,
        "HOST_COUNT": len(hosts),
        "CURRENT_HOST": process.host,
        "CURRENT_HOST_RANK": hosts.index(process.host),
        "CURRENT_INSTANCE_TYPE": process.instance_type,
        "NETWORK_INTERFACE_NAME": "eth0",
        "NUM_CPUS": 96,
        "NUM_GPUS": process.world.accelerators[0],
        "NUM_NEURONS": process.world.accelerators[1],
        "RESOURCE_CONFIG": process.config,
        "HPS": {"epochs": 3},
        "TRAINING_ENV": {"current_host": process.host, "hosts": hosts, "job_name": NAME, "master_addr": "algo-1"},
    }
    return {f"SM_{name}": value if isinstance(value, str) else json.dumps(value) for name, value in described.items()}


def sent_by_leader(process: Process) -> dict[str, str]:
    """``mpirun -x SM_...``: the leader's values on every host."""
    leader = toolkit(replace(process, host=process.world.hosts[0]))
    return {name: value for name, value in leader.items() if name.startswith("SM_")}


def remote_main_address(_: Process) -> dict[str, str]:
    """SDK v3's ``@remote(use_mpirun=True)``."""
    return {"MASTER_ADDR": "algo-1", "MASTER_PORT": "7777"}


def mpirun(process: Process) -> dict[str, str]:
    """Open MPI; its node rank is the rank on the node."""
    return {
        "OMPI_COMM_WORLD_RANK": str(process.rank),
        "OMPI_COMM_WORLD_SIZE": str(process.size),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(process.local_rank),
        "OMPI_COMM_WORLD_LOCAL_SIZE": str(process.world.processes),
        "OMPI_COMM_WORLD_NODE_RANK": str(process.local_rank),
        "OMPI_UNIVERSE_SIZE": str(process.size),
        "PMIX_NAMESPACE": _NAMESPACE,
        "PMIX_RANK": str(process.rank),
    }


def smddp_flags(process: Process) -> dict[str, str]:
    """``mpirun -x SMDATAPARALLEL_...`` of the toolkit, whether or not the image has smddp."""
    if len(process.world.hosts) == 1:
        return {"SMDATAPARALLEL_USE_SINGLENODE": "1"}
    return {
        "SMDATAPARALLEL_USE_HOMOGENEOUS": "1",
        "SMDATAPARALLEL_SERVER_ADDR": process.world.hosts[0],
        "SMDATAPARALLEL_SERVER_PORT": "7592",
    }


def smddprun(process: Process) -> dict[str, str]:
    """SMDDP's wrapper around the script."""
    return {
        "RANK": str(process.rank),
        "LOCAL_RANK": str(process.local_rank),
        "WORLD_SIZE": str(process.size),
        "SMDATAPARALLEL_WORLD_RANK": str(process.rank),
        "SMDATAPARALLEL_WORLD_SIZE": str(process.size),
        "SMDATAPARALLEL_LOCAL_RANK": str(process.local_rank),
    }


def ranks(process: Process) -> dict[str, str]:
    """Any launcher that keeps torch's convention, and no more."""
    return {
        "RANK": str(process.rank),
        "LOCAL_RANK": str(process.local_rank),
        "WORLD_SIZE": str(process.size),
        "MASTER_ADDR": process.world.main_address,
        "MASTER_PORT": str(process.world.main_port),
    }


def torchrun(process: Process) -> dict[str, str]:
    """torchrun; on one host with an address and port of its own."""
    return {
        **ranks(process),
        "LOCAL_WORLD_SIZE": str(process.world.processes),
        "GROUP_RANK": str(process.node_rank),
        "GROUP_WORLD_SIZE": str(len(process.world.hosts)),
        "ROLE_NAME": "default",
        "ROLE_RANK": str(process.rank),
        "ROLE_WORLD_SIZE": str(process.size),
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "OMP_NUM_THREADS": "1",
    }


# --- rows ------------------------------------------------------------------------------------------------------------


def one_group(*hosts: str) -> dict[str, tuple[str, ...]]:
    """The only instance group of a homogeneous job, with its own order of hosts."""
    return {DEFAULT_GROUP: hosts}


V2, V3, OWN = (platform, toolkit), (platform, drivers), (platform,)
V2_LOCAL, V3_LOCAL = (local_mode, toolkit), (local_mode, drivers)
SWAPPED = ("algo-2", "algo-1")  # as in public logs: the group's order is not the hosts' order
HETERO = {"cpu": ("algo-2",), "gpu": ("algo-3", "algo-1")}
_none = replace(World((), "none", "", ()), distribution=())
_mpi, _torch = World((), "mpirun", "", ()), World((), "torchrun", "", ())
_mpi_alone = replace(_mpi, main_port=22660)  # that of `_NAMESPACE`


def _row(
    sdk: Literal["v2", "v3"] | None, hosts: tuple[str, ...], groups: Mapping[str, tuple[str, ...]], *worlds: World
) -> Mode:
    return Mode(sdk, hosts, groups, worlds)


def _in(world: World, hosts: tuple[str, ...], main_address: str, *layers: Any, **facts: Any) -> World:
    return replace(world, hosts=hosts, main_address=main_address, layers=layers, **facts)


_LOOPBACK = "127.0.0.1"
_ONE_DEVICE = {"processes": 1, "accelerators": (1, 0)}
_NO_DEVICE = {"processes": None, "accelerators": (0, 0)}
_UNTOLD = {"processes": None, "lost": ("SM_",)}
_OUTSIDE = _in(_none, ("algo-2",), _LOOPBACK, *V2, **_NO_DEVICE, distribution=("gpu",))
_ELEVEN_SWAPPED = ("algo-5", *(host for host in ELEVEN if host != "algo-5"))

MODES: dict[str, Mode] = {
    # SDK v2, no launcher
    "v2-none-1-host": _row("v2", ONE, one_group(*ONE), _in(_none, ONE, _LOOPBACK, *V2)),
    "v2-none-2-hosts": _row("v2", TWO, one_group(*SWAPPED), _in(_none, TWO, "algo-1", *V2)),
    "v2-none-hosts-unsorted": _row("v2", SWAPPED, one_group(*TWO), _in(_none, SWAPPED, "algo-2", *V2)),
    "v2-none-11-hosts": _row("v2", ELEVEN, one_group(*_ELEVEN_SWAPPED), _in(_none, ELEVEN, "algo-1", *V2)),
    "v2-none-1-device": _row("v2", TWO, one_group(*TWO), _in(_none, TWO, "algo-1", *V2, **_ONE_DEVICE)),
    "v2-none-cpu": _row("v2", TWO, one_group(*TWO), _in(_none, TWO, "algo-1", *V2, **_NO_DEVICE)),
    "v2-none-neurons": _row(
        "v2", TWO, one_group(*TWO), _in(_none, TWO, "algo-1", *V2, processes=None, accelerators=(0, 32))
    ),
    "v2-none-2-groups": _row(
        "v2",
        THREE,
        HETERO,
        _in(_none, ("algo-1", "algo-3"), "algo-1", *V2),
        _in(_none, ("algo-2",), _LOOPBACK, *V2, **_NO_DEVICE),
    ),
    "v2-none-2-groups-first-host-elsewhere": _row(
        "v2",
        ("algo-3", "algo-1", "algo-2"),
        {"cpu": ("algo-3",), "gpu": ("algo-2", "algo-1")},
        _in(_none, ("algo-3",), _LOOPBACK, *V2, **_NO_DEVICE),
        _in(_none, ("algo-1", "algo-2"), "algo-1", *V2),
    ),
    "v2-none-image-without-pytorch-module": _row(
        "v2", TWO, one_group(*SWAPPED), _in(_none, TWO, "algo-1", *V2, lost=("MASTER_",))
    ),
    # SDK v2, smdistributed.dataparallel and pytorchddp, which nothing tells apart
    "v2-smddp-without-smddprun-1-host": _row(
        "v2", ONE, one_group(*ONE), _in(_mpi_alone, ONE, "algo-1", *V2, mpirun, smddp_flags)
    ),
    "v2-smddp-without-smddprun-2-hosts": _row(
        "v2", TWO, one_group(*SWAPPED), _in(_mpi, SWAPPED, "algo-2", *V2, mpirun, smddp_flags)
    ),
    "v2-smddp-with-smddprun-1-host": _row(
        "v2", ONE, one_group(*ONE), _in(_mpi_alone, ONE, "algo-1", *V2, mpirun, smddp_flags, smddprun)
    ),
    "v2-smddp-with-smddprun-2-hosts": _row(
        "v2", TWO, one_group(*SWAPPED), _in(_mpi, SWAPPED, "algo-2", *V2, mpirun, smddp_flags, smddprun)
    ),
    # SDK v2, mpi
    "v2-mpi-1-host": _row("v2", ONE, one_group(*ONE), _in(_mpi_alone, ONE, "algo-1", *V2, sent_by_leader, mpirun)),
    "v2-mpi-2-hosts": _row("v2", TWO, one_group(*SWAPPED), _in(_mpi, SWAPPED, "algo-2", *V2, sent_by_leader, mpirun)),
    "v2-mpi-1-process-per-host": _row(
        "v2", TWO, one_group(*SWAPPED), _in(_mpi, SWAPPED, "algo-2", *V2, sent_by_leader, mpirun, processes=1)
    ),
    "v2-mpi-image-without-pytorch-module": _row(
        "v2", TWO, one_group(*SWAPPED), _in(_mpi, SWAPPED, "algo-2", *V2, sent_by_leader, mpirun, lost=("MASTER_",))
    ),
    # SDK v2, torch_distributed
    "v2-torch_distributed-1-host": _row(
        "v2", ONE, one_group(*ONE), _in(_torch, ONE, "localhost", *V2, torchrun, main_port=43617)
    ),
    "v2-torch_distributed-2-hosts": _row("v2", TWO, one_group(*SWAPPED), _in(_torch, SWAPPED, "algo-2", *V2, torchrun)),
    "v2-torch_distributed-11-hosts": _row(
        "v2", ELEVEN, one_group(*_ELEVEN_SWAPPED), _in(_torch, _ELEVEN_SWAPPED, "algo-5", *V2, torchrun)
    ),
    "v2-torch_distributed-neurons": _row(
        "v2",
        TWO,
        one_group(*SWAPPED),
        _in(_torch, SWAPPED, "algo-2", *V2, torchrun, processes=32, accelerators=(0, 32)),
    ),
    "v2-torch_distributed-2-groups": _row(
        "v2",
        THREE,
        HETERO,
        _in(_torch, ("algo-3", "algo-1"), "algo-3", *V2, torchrun, distribution=("gpu",)),
        _in(_torch, ("algo-2",), "localhost", *V2, torchrun, processes=1, main_port=43617, distribution=("cpu",)),
    ),
    # SDK v2, instance_groups in the distribution
    "v2-instance_groups-smddp": _row(
        "v2",
        THREE,
        HETERO,
        _in(_mpi, ("algo-3", "algo-1"), "algo-3", *V2, mpirun, smddp_flags, smddprun, distribution=("gpu",)),
        _OUTSIDE,
    ),
    "v2-instance_groups-mpi": _row(
        "v2",
        THREE,
        HETERO,
        _in(_mpi, ("algo-3", "algo-1"), "algo-3", *V2, sent_by_leader, mpirun, distribution=("gpu",)),
        _OUTSIDE,
    ),
    "v2-instance_groups-2-hosts-outside": _row(
        "v2",
        THREE,
        {"gpu": ("algo-2",), "cpu": ("algo-3", "algo-1")},
        _in(_mpi_alone, ("algo-2",), "algo-2", *V2, mpirun, smddp_flags, distribution=("gpu",)),
        *(replace(_OUTSIDE, hosts=(host,)) for host in ("algo-3", "algo-1")),
    ),
    # SDK v3
    "v3-none-1-host": _row("v3", ONE, one_group(*ONE), _in(_none, ONE, _LOOPBACK, *V3)),
    "v3-none-2-hosts": _row("v3", TWO, one_group(*SWAPPED), _in(_none, TWO, "algo-1", *V3)),
    "v3-none-11-hosts": _row("v3", ELEVEN, one_group(*_ELEVEN_SWAPPED), _in(_none, ELEVEN, "algo-1", *V3)),
    "v3-none-hosts-by-other-names": _row("v3", LOCAL, one_group(*LOCAL), _in(_none, LOCAL, LOCAL[0], *V3)),
    "v3-torchrun-1-host": _row(
        "v3", ONE, one_group(*ONE), _in(_torch, ONE, "localhost", *V3, torchrun, main_port=43617)
    ),
    "v3-torchrun-2-hosts": _row("v3", TWO, one_group(*SWAPPED), _in(_torch, TWO, "algo-1", *V3, torchrun)),
    "v3-mpi-1-host": _row("v3", ONE, one_group(*ONE), _in(_mpi_alone, ONE, "algo-1", *V3, mpirun)),
    "v3-mpi-repaired": _row("v3", TWO, one_group(*SWAPPED), _in(_mpi, TWO, "algo-1", *V3, mpirun)),
    "v3-remote-torchrun": _row("v3", ONE, one_group(*ONE), _in(_torch, ONE, "algo-1", *V3, torchrun)),
    "v3-remote-mpirun": _row(
        "v3", ONE, one_group(*ONE), _in(_mpi_alone, ONE, "algo-1", *V3, remote_main_address, mpirun)
    ),
    # the image's own entry point: no SM_ variable
    "own-none-1-host": _row(None, ONE, one_group(*ONE), _in(_none, ONE, _LOOPBACK, *OWN, **_UNTOLD)),
    "own-none-2-hosts": _row(None, TWO, one_group(*SWAPPED), _in(_none, TWO, "algo-1", *OWN, **_UNTOLD)),
    "own-torchrun": _row(
        None, TWO, one_group(*SWAPPED), _in(_torch, TWO, "10.0.208.15", *OWN, torchrun, main_port=29500)
    ),
    "own-torchrun-on-1-group": _row(
        None,
        THREE,
        HETERO,
        _in(_torch, ("algo-3", "algo-1"), "algo-3", *OWN, torchrun),
        _in(_none, ("algo-2",), _LOOPBACK, *OWN, **_UNTOLD),
    ),
    "own-torchrun-on-all-groups": _row(None, THREE, HETERO, _in(_torch, THREE, "algo-1", *OWN, torchrun, processes=4)),
    "own-mpirun": _row(None, TWO, one_group(*TWO), _in(_mpi, TWO, "algo-1", *OWN, mpirun)),
    "own-launcher": _row(
        None, TWO, one_group(*TWO), _in(replace(_torch, launcher="custom"), TWO, "algo-1", *OWN, ranks)
    ),
    # local mode
    "v2-local-none": _row("v2", LOCAL, {}, _in(_none, LOCAL, LOCAL[0], *V2_LOCAL, **_NO_DEVICE)),
    "v2-local-smddp": _row("v2", LOCAL, {}, _in(_mpi, LOCAL, LOCAL[0], *V2_LOCAL, mpirun, smddp_flags)),
    "v2-local-torch_distributed": _row("v2", LOCAL, {}, _in(_torch, LOCAL, LOCAL[0], *V2_LOCAL, torchrun)),
    "v2-studio-local": _row(
        "v2", ("sagemaker-local",), {}, _in(_none, ("sagemaker-local",), _LOOPBACK, *V2_LOCAL, **_NO_DEVICE)
    ),
    "v3-local-none": _row("v3", TWO, {}, _in(_none, TWO, "algo-1", *V3_LOCAL, **_NO_DEVICE)),
    "v3-local-torchrun": _row("v3", TWO, {}, _in(_torch, TWO, "algo-1", *V3_LOCAL, torchrun)),
}

_SHUFFLED = tuple(random.Random(2026).sample(THOUSAND, len(THOUSAND)))  # noqa: S311 - an order, not a secret
LARGE: dict[str, Mode] = {
    "v2-none": _row("v2", THOUSAND, one_group(*_SHUFFLED), _in(_none, THOUSAND, "algo-1", *V2)),
    "v2-mpi": _row("v2", THOUSAND, one_group(*_SHUFFLED), _in(_mpi, _SHUFFLED, _SHUFFLED[0], *V2, mpirun)),
    "v2-torch_distributed": _row(
        "v2", THOUSAND, one_group(*_SHUFFLED), _in(_torch, _SHUFFLED, _SHUFFLED[0], *V2, torchrun)
    ),
    "v3-none": _row("v3", THOUSAND, one_group(*_SHUFFLED), _in(_none, THOUSAND, "algo-1", *V3)),
    "v3-torchrun": _row("v3", THOUSAND, one_group(*_SHUFFLED), _in(_torch, THOUSAND, "algo-1", *V3, torchrun)),
}


def started_by_lightning(
    environ: Mapping[str, str], parent: SageMakerJob, devices: int, local_rank: int
) -> dict[str, str]:
    """Environment of a process of Lightning's own launcher; local rank 0 is the parent, from then on."""
    return {
        **environ,
        "MASTER_ADDR": parent.main_address,
        "MASTER_PORT": str(parent.main_port),
        "NODE_RANK": str(parent.node_rank),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": str(devices * parent.num_nodes),
    }
