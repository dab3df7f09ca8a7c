"""The suites, and what is launched of those that run in jobs, in which order. Standard library only.

A plan follows from a few arguments, so that every process of a job makes the same one.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from benchmarks.samples import Role, interleaved, role_of

SIMULATED = "BENCHMARK_SIMULATED"  # set where the job, and with it its instance type, is make-believe


class World(NamedTuple):
    """Where launches run."""

    hosts: int
    processes: int  # on each host
    launcher: str  # "torchrun", "mpirun" or "none"
    gpu: bool = False  # whether each process has one

    def __str__(self) -> str:
        return f"{self.hosts} x {self.processes}, {self.launcher}"


class Arm(NamedTuple):
    """A variant: its settings, and the variables that make it."""

    settings: Mapping[str, Any]
    environ: Mapping[str, str] = {}


Cases = list[tuple[dict[str, Any], dict[str, Arm]]]  # settings and arms of each, the baseline first


@dataclass(frozen=True)
class Planned:
    """One launch to be; the worker makes its case."""

    worker: str  # module under `benchmarks.workers` that runs in every process
    suite: str
    arm: str
    role: Role
    index: int
    settings: Mapping[str, Any]
    environ: Mapping[str, str]  # of this arm's processes

    def to_json(self) -> str:
        """For a worker's command line."""
        return json.dumps(asdict(self))


class Suite(NamedTuple):
    """How a suite runs; docs/benchmarks.md says what it measures."""

    # Makes its cases in a world; None where it needs no job: then it is a module of `benchmarks/suites`.
    cases: Callable[[World, bool], Cases] | None = None
    worker: str = ""
    worlds: tuple[World, ...] = ()  # that are simulated
    further: tuple[World, ...] = ()  # more of them, with `--full`
    quick: tuple[str, ...] = ()  # options without `--full`
    times: int = 1  # how many of its cheap launches make one that is asked for
    by_name: bool = False  # whether it runs only where it or `--full` is asked for


def plan(suite: str, world: World, *, full: bool, launches: int) -> list[Planned]:
    """All launches of a suite in this world, arms interleaved; ValueError if no job has such a suite."""
    jobs = {name: (each.cases, each.worker) for name, each in SUITES.items() if each.cases}
    if suite not in jobs:
        raise ValueError(f"suite {suite!r}: expected one of {', '.join(jobs)}")
    (cases, worker), found = jobs[suite], []
    common = {"seed": 0, "world_size": world.hosts * world.processes, "processes_per_host": world.processes}
    for settings, arms in cases(world, full):
        for name, index in interleaved(tuple(arms), launches):
            made = {**common, **settings, **arms[name].settings}
            found.append(Planned(worker, suite, name, role_of(name, tuple(arms)), index, made, arms[name].environ))
    return found


def _native(world: World) -> Arm:
    # Stock Lightning finds its ranks under torchrun, not under SageMaker's mpirun: there the plugin serves both arms.
    if world.launcher == "torchrun":
        return Arm({"strategy": "ddp", "plugin": "off"}, {"LIGHTNING_SAGEMAKER_AUTOLOAD": "0"})
    return Arm({"strategy": "ddp", "plugin": "on"})


def _training(world: World, full: bool) -> Cases:
    native = _native(world)
    # Without SMDDP it would go on over NCCL, as a user's training does, and be another arm under its name.
    strict = {"LIGHTNING_SAGEMAKER_ON_MISSING": "error"} if world.gpu else {}
    smddp = Arm({"strategy": "smddp", "plugin": "on"}, strict)
    common = {"size": "gpu" if world.gpu else "laptop", "precision": "bf16-mixed" if world.gpu else "32"}
    mlp = (
        common | {"model": "mlp", "steps": 200 if world.gpu else 100},
        {"native": native, "native again": native, "smddp": smddp},
    )
    # What views save is no merit of ours: stock can be told to use them.
    views = native._replace(settings={**native.settings, "gradient_as_bucket_view": True})
    arms = {"native": native, "smddp": smddp} | ({"native, bucket views": views} if full else {})
    gpt = common | {"model": "gpt", "steps": 200 if world.gpu else 40}, arms
    return [mlp, gpt] if full or world.gpu else [mlp]


def _self_check(world: World, full: bool) -> Cases:
    # Whether the harness finds what is there, and finds nothing where nothing is.
    native = _native(world)
    arms = {"native": native, "native again": native}
    arms |= {
        f"{share:.0%} slower": Arm({**native.settings, "slowdown": share}, native.environ) for share in (0.0, 0.05)
    }
    settings = {"model": "mlp", "size": "gpu" if world.gpu else "laptop", "precision": "32"}
    return [(settings | {"steps": 400 if full else 200}, arms)]


def _logging(world: World, full: bool) -> Cases:
    native, ours = _native(world), {name: Arm({"strategy": name, "plugin": "on"}) for name in ("ddp", "smddp")}
    # One A/A run judges the suite; the larger world is the dearest of all.
    again = {} if world.processes > 2 and not full else {"native again": native}  # noqa: PLR2004
    steps, arms = {"steps": 60 if full else 20}, {"native": native} | again | ours
    # Between steps that log, one that does not is as they left it: what it costs is seen where nothing is logged.
    nothing = [({"metrics": 0} | steps, arms)] if full else []
    return [({"metrics": 20} | steps, arms), *nothing]


def _collectives(world: World, full: bool) -> Cases:
    backend = "nccl" if world.gpu else "gloo"
    arms = {backend: backend, f"{backend} again": backend, "smddp": "smddp"}
    largest = 2**30 if full and world.gpu else 2**26 if full else 2**24
    return [({"largest": largest}, {name: Arm({"backend": each}) for name, each in arms.items()})]


_TWO, _FOUR, _MPI = World(1, 2, "torchrun"), World(1, 4, "torchrun"), World(2, 1, "mpirun")
SUITES = {
    "training": Suite(_training, "training", worlds=(_TWO,), further=(_FOUR, _MPI)),
    "logging": Suite(_logging, "logging", worlds=(_TWO, _FOUR)),
    "collectives": Suite(_collectives, "collectives", worlds=(_MPI,)),
    "start-up": Suite(),
    "locking": Suite(quick=("--waiters=3", "--rounds=4")),
    "self-check": Suite(_self_check, "training", worlds=(_TWO,), by_name=True),
    "checkpoints": Suite(by_name=True),
    "lines": Suite(times=10, by_name=True),
    "scale": Suite(times=4, by_name=True),  # as root
    "rendezvous": Suite(times=4, by_name=True),  # as root: on test hosts
    "faults": Suite(by_name=True),  # the same
}
