"""Measures the time from a blocked main port to the line that names it: as root, on test hosts in network namespaces.

``python -m benchmarks.diagnosis SAMPLES_FILE --launches N``, by the Python of the development environment. Stock is
given up after a patience, which then stands in the place of its time: a lower bound.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import faults
from benchmarks.environment import gather
from benchmarks.samples import Launch, append, interleaved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.samples import Role

FAULT, MODE = "blocked main port", "torch_distributed"
PATIENCE = 60.0  # seconds
SCALE = 10.0  # our limits are a tenth of their defaults, so that a run ends within the patience
ROLES: dict[str, Role] = {"ours": "baseline", "ours again": "again", "stock": "candidate"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all launches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--launches", type=int, default=6)
    given = parser.parse_args(arguments)
    described = gather("gloo", stand_in=False, launcher="torchrun", hosts=2)
    for arm, index in interleaved(tuple(ROLES), given.launches):
        found = faults.measure(FAULT, MODE, arm.removesuffix(" again"), SCALE, PATIENCE)
        named = found["first line"]
        launch = Launch(
            suite="diagnosis",
            case=f"{FAULT}, torchrun, 2 x 2",
            arm=arm,
            role=ROLES[arm],
            index=index,
            settings={"plugin": "off" if arm == "stock" else "on", "scale": SCALE, "patience": PATIENCE},
            environment=described,
            numbers={"named_seconds": float(PATIENCE if named is None else named)},  # type: ignore[arg-type]
            labels=(f"no line in {PATIENCE:g} s",) if named is None else (),
        )
        append(given.samples, launch)
        print(f"benchmark: diagnosis, {arm}", flush=True)


if __name__ == "__main__":
    main()
