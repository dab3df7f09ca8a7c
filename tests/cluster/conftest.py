"""Clusters for tests: as root only, with Debian's Open MPI and sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ..simulate.helpers import require  # noqa: TID252 - importmode=importlib
from ..submit.aws import aws as aws  # noqa: PLC0414, TID252 - a fixture
from .hosts import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    MakeCluster = Callable[..., Cluster]

_PROGRAMS = {
    "nft": "nftables",
    "tc": "iproute2",
    "sshd": "openssh-server",
    "/usr/bin/mpirun": "openmpi-bin",
}


@pytest.fixture(scope="session", autouse=True)
def _prerequisites() -> None:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        require("test hosts are network namespaces: Linux, and root, only")
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    if missing := [package for program, package in _PROGRAMS.items() if shutil.which(program, path=path) is None]:
        require(f"test hosts need Debian's {', '.join(missing)}")


@pytest.fixture(scope="session")
def key_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key pair with which the hosts of a test let each other in."""
    path = tmp_path_factory.mktemp("key") / "ssh-key"
    subprocess.run(["/usr/bin/ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture
def make_cluster(tmp_path: Path, key_pair: Path) -> Iterator[MakeCluster]:
    """Make hosts with these names, in this order; they and their network are gone after the test."""
    clusters: list[Cluster] = []

    def make_cluster(*names: str) -> Cluster:
        folder = tmp_path / f"cluster-{len(clusters)}"
        folder.mkdir()
        cluster = Cluster(names, folder)
        for path in (key_pair, key_pair.with_suffix(".pub")):
            shutil.copy(path, cluster.shared)
        clusters.append(cluster)
        return cluster.__enter__()

    yield make_cluster
    for cluster in clusters:
        cluster.close()
