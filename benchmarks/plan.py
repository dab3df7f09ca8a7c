"""What is run in one world (hosts x processes, one launcher), in which order. Standard library only.

A plan follows from a few arguments, so that every process of a job makes the same one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.samples import Role, interleaved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SIMULATED = "BENCHMARK_SIMULATED"  # set where the job, and with it its instance type, is make-believe
OFF = {"LIGHTNING_SAGEMAKER_AUTOLOAD": "0"}


@dataclass(frozen=True)
class World:
    """Where launches run.

    Attributes:
        hosts: How many.
        processes: On each host.
        launcher: "torchrun", "mpirun" or "none".
        gpu: Whether processes have one each.
    """

    hosts: int
    processes: int
    launcher: str
    gpu: bool = False

    @property
    def size(self) -> int:
        """World size."""
        return self.hosts * self.processes

    def __str__(self) -> str:
        return f"{self.hosts} x {self.processes}"


@dataclass(frozen=True)
class Planned:
    """One launch to be.

    Attributes:
        worker: Module under `benchmarks.workers` that runs in every process.
        suite: See `samples.Launch`; the worker makes the case.
        arm: Name of the variant.
        role: Of the arm.
        index: Of the launch within the arm.
        settings: What decides the result.
        environ: Variables of this arm's processes.
    """

    worker: str
    suite: str
    arm: str
    role: Role
    index: int
    settings: Mapping[str, Any]
    environ: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """For a worker's command line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Arm:
    """A variant: its settings, and the variables that make it."""

    name: str
    role: Role
    settings: Mapping[str, Any]
    environ: Mapping[str, str] = field(default_factory=dict)


def plan(suite: str, world: World, *, full: bool, launches: int) -> list[Planned]:
    """All launches of a suite in this world, arms interleaved.

    Raises:
        ValueError: There is no such suite.
    """
    if suite not in _SUITES:
        raise ValueError(f"suite {suite!r}: expected one of {', '.join(_SUITES)}")
    found = []
    for settings, arms in _SUITES[suite](world, full):
        by_name = {arm.name: arm for arm in arms}
        common = {"seed": 0, "world_size": world.size, "processes_per_host": world.processes} | settings
        for name, index in interleaved(tuple(by_name), launches):
            arm = by_name[name]
            made = {**common, **arm.settings}
            found.append(Planned(_WORKERS.get(suite, suite), suite, name, arm.role, index, made, arm.environ))
    return found


def _native(world: World) -> Arm:
    # Stock Lightning finds its ranks under torchrun, not under SageMaker's mpirun: there the plugin serves both arms.
    if world.launcher == "torchrun":
        return Arm("native", "baseline", {"strategy": "ddp", "plugin": "off"}, OFF)
    return Arm("native", "baseline", {"strategy": "ddp", "plugin": "on"})


def _again(arm: Arm) -> Arm:
    return Arm(f"{arm.name} again", "again", arm.settings, arm.environ)


def _training(world: World, full: bool) -> Iterator[tuple[dict[str, Any], list[Arm]]]:
    native = _native(world)
    smddp = Arm("smddp", "candidate", {"strategy": "smddp", "plugin": "on"})
    size = "gpu" if world.gpu else "laptop"
    steps = {"mlp": 100, "gpt": 40, "resnet": 40} if not world.gpu else dict.fromkeys(("mlp", "gpt", "resnet"), 200)
    models = ("gpt", "mlp", "resnet") if full else ("gpt", "mlp") if world.gpu else ("mlp",)
    for model in models:
        arms = [native, smddp]
        if model == "mlp":
            arms.insert(1, _again(native))
        if model == "gpt" and full:
            # What views save is no merit of ours: stock can be told to use them.
            told = {**native.settings, "gradient_as_bucket_view": True}
            arms.append(Arm("native, bucket views", "candidate", told, native.environ))
        yield (
            {"model": model, "size": size, "steps": steps[model], "precision": "bf16-mixed" if world.gpu else "32"},
            arms,
        )


def _self_check(world: World, full: bool) -> Iterator[tuple[dict[str, Any], list[Arm]]]:
    # Whether the harness finds what is there, and finds nothing where nothing is.
    native = _native(world)
    slower = [
        Arm(f"{share:.0%} slower", "candidate", {**native.settings, "slowdown": share}, native.environ)
        for share in (0.0, 0.05)
    ]
    size = "gpu" if world.gpu else "laptop"
    yield (
        {"model": "mlp", "size": size, "steps": 400 if full else 200, "precision": "32"},
        [native, _again(native), *slower],
    )


def _logging(world: World, full: bool) -> Iterator[tuple[dict[str, Any], list[Arm]]]:
    native = _native(world)
    ours = [Arm(name, "candidate", {"strategy": name, "plugin": "on"}) for name in ("ddp", "smddp")]
    # One A/A run judges the suite; the larger world is the dearest of all.
    arms = [native, *ours] if world.processes > 2 and not full else [native, _again(native), *ours]  # noqa: PLR2004
    yield {"metrics": 20, "steps": 60 if full else 20}, arms


def _collectives(world: World, full: bool) -> Iterator[tuple[dict[str, Any], list[Arm]]]:
    native = Arm("nccl" if world.gpu else "gloo", "baseline", {"backend": "nccl" if world.gpu else "gloo"})
    largest = 2**30 if full and world.gpu else 2**26 if full else 2**24
    yield {"largest": largest}, [native, _again(native), Arm("smddp", "candidate", {"backend": "smddp"})]


_WORKERS = {"self-check": "training"}  # all other suites have one of their own name
_SUITES = {"training": _training, "self-check": _self_check, "logging": _logging, "collectives": _collectives}
