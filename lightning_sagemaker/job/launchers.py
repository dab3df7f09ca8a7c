"""The launchers: the variables that each sets, and the world that they describe.

A launcher is one row of ``_LAUNCHERS``. The order of the rows is the order of precedence: torchrun started inside an
mpirun job is the one that started this process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lightning_sagemaker.job.values import integer

if TYPE_CHECKING:
    from collections.abc import Mapping

Launcher = Literal["torchrun", "mpirun", "custom", "none"]

# Set where no launcher started a process and RANK was there all the same, left by an image or a script: its value.
# Lightning's own launcher sets LOCAL_RANK and WORLD_SIZE: with that RANK its processes look like another launcher's.
FOREIGN_RANK = "LIGHTNING_SAGEMAKER_FOREIGN_RANK"
MOST_PROCESSES_PER_HOST = 1024  # no instance type has more devices; beyond it a value is damaged, not large


@dataclass(frozen=True)
class _Variables:
    """Names of the variables by which a launcher describes the world."""

    launcher: Launcher
    marks: tuple[str, ...]  # variables that are all set exactly where this launcher started the process
    rank: str
    world_size: str
    local_rank: str
    local_world_size: str
    # Variables that may be set too, and the property of :class:`World` that they must then agree with.
    witnesses: Mapping[str, str] = field(default_factory=dict)


_GROUPS = {"GROUP_RANK": "node_rank", "GROUP_WORLD_SIZE": "num_nodes"}
_LAUNCHERS = (
    _Variables(
        "torchrun", ("TORCHELASTIC_RUN_ID",), "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", witnesses=_GROUPS
    ),
    # `smddprun`, which runs under mpirun, adds torchrun's names for the same facts.
    _Variables(
        "mpirun",
        ("OMPI_COMM_WORLD_SIZE",),
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        witnesses={"RANK": "rank", "WORLD_SIZE": "size", "LOCAL_RANK": "local_rank"},
    ),
    # deepspeed's launcher, which has names of its own for the processes of a host (`launcher/launch.py`).
    _Variables(
        "custom",
        ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_SIZE", "CROSS_SIZE"),
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_SIZE",
        witnesses={"CROSS_RANK": "node_rank", "CROSS_SIZE": "num_nodes", "LOCAL_WORLD_SIZE": "local_size"},
    ),
    # Any other program that keeps torch's convention. Lightning's own launcher does not: it sets no RANK. (DeepSpeed's
    # strategy adds it, and leaves it behind.)
    _Variables(
        "custom",
        ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        witnesses={**_GROUPS, "NODE_RANK": "node_rank"},
    ),
)


def recognised_by(launcher: Launcher) -> str:
    """How a launcher is recognised, in words."""
    marks = next((row.marks for row in reversed(_LAUNCHERS) if row.launcher == launcher), ())
    if not marks:
        return "SageMaker started one process on this host"
    *others, last = marks
    return f"{', '.join(others)} and {last} are set" if others else f"{last} is set"


@dataclass(frozen=True)
class World:
    """The ranks that a launcher set."""

    variables: _Variables
    rank: int
    size: int
    local_rank: int
    local_size: int
    # Whether the launcher told nothing of ``local_size``: it is what each host has if the world spans all of the job's
    # evenly.
    is_assumed: bool = False

    @property
    def launcher(self) -> Launcher:
        """Name of the launcher."""
        return self.variables.launcher

    @property
    def num_nodes(self) -> int:
        """Number of hosts that the world spans."""
        return self.size // self.local_size

    @property
    def node_rank(self) -> int:
        """Index of this host in the world (``OMPI_COMM_WORLD_NODE_RANK`` is not that, whatever its name says)."""
        return self.rank // self.local_size

    def __str__(self) -> str:
        names = self.variables
        told = f"{names.local_world_size}={self.local_size}"
        if self.is_assumed:
            told = f"{names.local_world_size} not set, {self.local_size} where all hosts of the job have as many"
        return f"{names.rank}={self.rank}, {names.world_size}={self.size}, {names.local_rank}={self.local_rank}, {told}"


def read_world(environ: Mapping[str, str], num_hosts: int) -> World | None:
    """The world of this process's launcher; ``None`` if no launcher started it.

    ``num_hosts`` is for launchers that do not tell how many processes a host has.
    """
    for names in _LAUNCHERS:
        if all(environ.get(mark) for mark in names.marks) and not _describes_no_world(environ, names, num_hosts):
            size = _required(environ, names.world_size)
            is_assumed = names.launcher == "custom" and not environ.get(names.local_world_size)
            local_size = max(1, size // num_hosts) if is_assumed else _required(environ, names.local_world_size)
            rank, local_rank = _required(environ, names.rank), _required(environ, names.local_rank)
            world = World(names, rank, size, local_rank, local_size, is_assumed)
            _check(environ, world)
            return world
    return None


def _describes_no_world(environ: Mapping[str, str], names: _Variables, num_hosts: int) -> bool:
    """Whether a launcher's variables do not describe a world here.

    mpirun with one process is Lightning's to fill on a single host: `MPIEnvironment` asks for more than one, and SDK
    v2's `mpi` starts one where `processes_per_host` is left out.
    """
    if names.launcher == "mpirun":
        return num_hosts == 1 and environ[names.world_size] == "1"
    if names.launcher != "custom":
        return False
    if environ.get(FOREIGN_RANK) == environ["RANK"]:
        return True
    return _is_default(environ) and not any(environ.get(name) for name in ("LOCAL_WORLD_SIZE", *names.witnesses))


def _is_default(environ: Mapping[str, str]) -> bool:
    """Whether the variables are those that images set for a single process: no launcher makes a world of one."""
    return tuple(environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")) == ("0", "1", "0")


def lightning_local_rank(environ: Mapping[str, str]) -> int | None:
    """Local rank that Lightning's own launcher gave this process, ``None`` before it started any.

    Lightning sets ``LOCAL_RANK`` in the processes it starts and, once it has started them, in the parent too, and
    ``WORLD_SIZE`` with it: never 1.
    """
    return None if _is_default(environ) else integer(environ, "LOCAL_RANK", most=MOST_PROCESSES_PER_HOST - 1)


def _check(environ: Mapping[str, str], world: World) -> None:
    names = world.variables
    problem = None
    if not 1 <= world.local_size <= MOST_PROCESSES_PER_HOST:
        problem = f"{names.local_world_size} is not between 1 and {MOST_PROCESSES_PER_HOST}"
    elif world.rank >= world.size:
        problem = f"{names.rank} is not below {names.world_size}"
    elif world.local_rank >= world.local_size:
        problem = f"{names.local_rank} is not below {names.local_world_size}"
    elif world.size % world.local_size:
        problem = f"{names.world_size} is not divisible by {names.local_world_size}: the hosts differ in processes"
    elif world.rank % world.local_size != world.local_rank:
        problem = f"{names.local_rank} is not {names.rank} modulo {names.local_world_size}: ranks skip between hosts"
    if problem:
        tell = f" Where a host has another number of processes, set {names.local_world_size} to it."
        raise ValueError(
            f"{world.launcher} gave this process ranks that contradict each other ({world}): {problem}. HINT: start the"
            " same number of processes on every host, host by host (mpirun: `--map-by slot`, SageMaker's default), and"
            f" set none of these variables yourself.{tell if world.is_assumed else ''}"
        )
    for name, fact in names.witnesses.items():
        expected = getattr(world, fact)
        if integer(environ, name) not in (None, expected):
            raise ValueError(
                f"Environment variable `{name}`={environ[name]} contradicts {world.launcher}, by whose variables"
                f" ({world}) it would be {expected}. HINT: remove `{name}` from the job's environment and from your"
                " entry script."
            )


def _required(environ: Mapping[str, str], name: str) -> int:
    value = integer(environ, name)
    if value is None:
        present = sorted(
            key for key in environ if key.startswith(("OMPI_COMM_WORLD_", "TORCHELASTIC_")) or "RANK" in key
        )
        raise ValueError(
            f"Environment variable `{name}` is not set, but others of the same launcher are ({', '.join(present)})."
            " HINT: torchrun and mpirun set them all; do not filter variables between launcher and script."
        )
    return value
