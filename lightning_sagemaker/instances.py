"""Instance types with NVIDIA GPUs that SageMaker trains on: how many GPUs, and whether several talk over EFA.

From EC2's DescribeInstanceTypes, November 2026. A type that is not here is not refused: the job itself counts its GPUs.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

_ONE_TO_EIGHT = {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "16xlarge": 1, "12xlarge": 4, "24xlarge": 4}
_GPUS = {
    "p3": {"2xlarge": 1, "8xlarge": 4, "16xlarge": 8},
    "p3dn": {"24xlarge": 8},
    "p4d": {"24xlarge": 8},
    "p4de": {"24xlarge": 8},
    "p5": {"4xlarge": 1, "48xlarge": 8},
    "p5e": {"48xlarge": 8},
    "p5en": {"48xlarge": 8},
    "p6-b200": {"48xlarge": 8},
    "p6-b300": {"48xlarge": 8},
    "g4dn": {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "16xlarge": 1, "12xlarge": 4},
    "g5": _ONE_TO_EIGHT | {"48xlarge": 8},
    "g6": _ONE_TO_EIGHT | {"48xlarge": 8},
    "g6e": _ONE_TO_EIGHT | {"48xlarge": 8},
}
# As botocore's model of the API has them, which a test reads.
_FORM = re.compile(r"ml\.[a-z]+\d[a-z0-9-]*\.(\d*x?large|medium|small)")
_WITHOUT_EFA = {"xlarge", "2xlarge", "4xlarge"}  # of the g families
_WITH_RDMA = {"p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300"}


@dataclass(frozen=True)
class Instance:
    """One instance type."""

    gpus: int  # number of NVIDIA GPUs
    efa: bool  # whether it has an Elastic Fabric Adapter
    rdma: bool  # whether GPUs of several instances read each other's memory over it


def instance(instance_type: str) -> Instance | None:
    """What is known of a type; ``None`` if nothing is."""
    family, _, size = instance_type.removeprefix("ml.").partition(".")
    gpus = _GPUS.get(family, {}).get(size)
    if gpus is None:
        return None
    efa = family in _WITH_RDMA or family == "p3dn" or (family.startswith("g") and size not in _WITHOUT_EFA)
    return Instance(gpus, efa=efa, rdma=family in _WITH_RDMA)


def near(instance_type: str) -> list[str]:
    """Types that may be meant by a text that is none; empty for one that may be a type, in this table or not."""
    if _FORM.fullmatch(instance_type):
        return []
    known = [f"ml.{family}.{size}" for family, sizes in _GPUS.items() for size in sizes]
    return difflib.get_close_matches(instance_type.lower(), known, 3, cutoff=0.0)
