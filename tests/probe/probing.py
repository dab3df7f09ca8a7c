"""What several tests of the probe share: a simulated probing job, and the report of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ..simulate.helpers import environment  # noqa: TID252 - importmode=importlib

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PLACES = ("begin", "job", "ranks", "marks", "resource_config", "sm_resource_config", "checkpoint_config", "names")
LOOKS = {
    *PLACES,
    *("interface", "port", "processes", "shared_memory", "software", "meeting", "end"),
    *(f"variables/{family}_" for family in ("FI", "MASTER", "NCCL", "OMPI", "PMIX", "SM", "SMDATAPARALLEL")),
    "variables/TORCHELASTIC_",
}


class Probed(NamedTuple):
    """How a probing job ended."""

    code: int
    output: str
    report: dict[str, Any]

    @property
    def verdicts(self) -> dict[str, str]:
        """Verdict by assumption."""
        return {each["key"]: each["verdict"] for each in self.report["assumptions"]}

    @property
    def seen(self) -> dict[str, dict[str, Any]]:
        """All observations of each rank."""
        ranks = {rank: dict(seen) for rank, seen in self.report["further"].items()}
        for assumption in self.report["assumptions"]:
            for rank, seen in assumption["observations"].items():
                ranks[rank] |= seen
        return ranks


def probe(folder: Path, *arguments: object, **environ: str) -> Probed:
    """Run the command as a user types it."""
    path = folder / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "lightning_sagemaker.cli", "probe", "--output", str(path), *map(str, arguments)],
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    output = done.stdout + done.stderr
    assert path.is_file(), output
    return Probed(done.returncode, output, json.loads(path.read_text()))


def holding(probed: Probed, keys: Sequence[str]) -> dict[str, str]:
    """Those verdicts; to be compared with what they shall be."""
    return {key: probed.verdicts[key] for key in keys}
