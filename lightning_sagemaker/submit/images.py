"""AWS's PyTorch training images: their versions and tags."""

from __future__ import annotations

import re
from typing import NamedTuple

SMDDP_VERSION = "2.5.1"  # the last with SMDDP


class Image(NamedTuple):
    """An image in AWS's registry: its repository there, and a tag for instances with and without GPUs."""

    repository: str
    gpu: str
    cpu: str


# From aws/deep-learning-containers, docs/src/data, branch main, 21 August 2026: what is published for SageMaker. Newest
# first. The tables of the SageMaker SDKs end earlier: v2's with 2.8.0, v3's with 2.10.0.
_IMAGES = {
    "2.13.0": Image("pytorch", "2.13-cu133-amzn2023-sagemaker", "2.13-cpu-amzn2023-sagemaker"),
    "2.12.1": Image("pytorch", "2.12-cu130-amzn2023-sagemaker", "2.12-cpu-amzn2023-sagemaker"),
    "2.11.0": Image("pytorch", "2.11-cu130-amzn2023-sagemaker", "2.11-cpu-amzn2023-sagemaker"),
    **{
        version: Image("pytorch-training", f"{version}-gpu-{python}", f"{version}-cpu-{python}")
        for python, versions in (
            ("py313", ("2.10.0",)),
            ("py312", ("2.9.0", "2.8.0", "2.7.1", "2.6.0")),
            ("py311", ("2.5.1", "2.4.0", "2.3.0")),
            ("py310", ("2.2.0", "2.1.0")),
        )
        for version in versions
    },
}
NEWEST_VERSION = next(iter(_IMAGES))


def full_version(torch: str) -> str:
    """A version as the table writes it: ``2.13`` is ``2.13.0``."""
    for version in _IMAGES:
        if torch in (version, version.rpartition(".")[0]):
            return version
    raise ValueError(
        f"AWS publishes no PyTorch training image {torch!r}, as of August 2026; there are"
        f" {', '.join(_IMAGES)}. HINT: --torch with one of these, or --image with a URI."
    )


def repository_and_tag(torch: str, instance_type: str) -> str:
    """``repository:tag`` of the image for a version of torch and an instance type."""
    image = _IMAGES[full_version(torch)]
    with_gpu = re.match(r"ml\.[gp][a-z]*\d", instance_type) is not None  # families of EC2 with NVIDIA GPUs
    return f"{image.repository}:{image.gpu if with_gpu else image.cpu}"


def has_mpi4py(torch: str) -> bool:
    """Whether an image for GPUs has ``mpi4py``, with which both MPI launchers of the toolkit start Python.

    Those for CUDA since 2.11 lack it (their ``uv.lock``).
    """
    major, minor = (int(part) for part in torch.split(".")[:2])
    return (major, minor) < (2, 11)


def has_smddp(torch: str) -> bool:
    """Whether an image for GPUs has SMDDP."""
    versions = list(_IMAGES)
    return versions.index(full_version(torch)) >= versions.index(SMDDP_VERSION)
