"""Launches that were never measured, with known truths."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

# The benchmarks are a program of the repository, not part of the installed package; last, so that a wheel that is
# under test stays the one that is imported.
sys.path.append(str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.environment import Environment
from benchmarks.samples import Launch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.samples import Role


class MakeLaunch(Protocol):
    def __call__(self, arm: str = ..., index: int = ..., **changed: Any) -> Launch: ...


class MakeRun(Protocol):
    def __call__(
        self, slowdown: float, launches: int = ..., *, seed: int = ..., noise: float = ..., **changed: Any
    ) -> list[Launch]: ...


def _launch(arm: str = "ddp", index: int = 0, **changed: Any) -> Launch:
    backend = changed.pop("backend", "nccl")
    environment = Environment(
        backend=backend,
        fake_smddp=changed.pop("fake_smddp", False),
        launcher="torchrun",
        hosts=2,
        instance_type="ml.p4d.24xlarge",
        python="3.11.7",
        versions={"torch": "2.5.1", "lightning": "2.6.6", **changed.pop("versions", {})},
        git_hash="0123abc",
        variables=changed.pop("variables", {"NCCL_DEBUG": "WARN"}),
    )
    fields: dict[str, Any] = {
        "suite": "training",
        "case": "tiny, 2 x 2",
        "role": "baseline",
        "settings": {"batch": 8, "seed": 1, "strategy": arm, "model": {"width": 64}},
        "environment": environment,
        "numbers": {"step_seconds": 1.0},
        "time": f"2026-11-0{1 + index % 9}T00:00:00+00:00",
    }
    return Launch(arm=arm, index=index, **(fields | changed))


def _run(slowdown: float, launches: int = 8, *, seed: int = 1, noise: float = 0.015, **changed: Any) -> list[Launch]:
    """Three arms with 1.5 % between launches and 5 % between steps; the candidate is slower by the given share."""
    random = np.random.default_rng(seed)
    arms: Sequence[tuple[str, Role, str, float]] = (
        ("ddp", "baseline", "ddp", 1.0),
        ("ddp again", "again", "ddp", 1.0),
        ("smddp", "candidate", "smddp", 1.0 + slowdown),
    )
    made = []
    for index in range(launches):
        for arm, role, strategy, factor in arms:
            middle = 0.1 * factor * random.lognormal(0, noise)
            ranks = middle * random.lognormal(0, 0.05, size=(2, 60))
            settings = {"batch": 8, "seed": 1, "strategy": strategy}
            backend = {"ddp": "nccl", "smddp": "smddp"}[strategy]
            steps = tuple(tuple(rank) for rank in ranks.tolist())
            extra = {"backend": backend, "settings": settings, "steps": steps, "numbers": {}, "role": role}
            made.append(_launch(arm, index, **(extra | changed)))
    return made


@pytest.fixture
def make_launch() -> MakeLaunch:
    return _launch


@pytest.fixture
def make_run() -> MakeRun:
    return _run
