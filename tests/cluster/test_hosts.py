"""The test hosts themselves: a fault that does nothing would prove nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from . import faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from .hosts import Cluster

    MakeCluster = Callable[..., Cluster]

ENVIRON = {"PATH": f"{os.defpath}:/usr/sbin", "LANG": "C.UTF-8"}
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()
    print("open")
except socket.gaierror:
    print("unknown")
except ConnectionRefusedError:
    print("refused")
except OSError:
    print("silent")
"""


def connect(cluster: Cluster, name: str = "algo-2", port: int = 7777) -> str:
    host = cluster["algo-1"]
    host.lines.clear()
    host.start([sys.executable, "-c", CONNECT, name, str(port)], ENVIRON)
    assert host.wait(20) == 0
    return host.text


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> Cluster:
    return make_cluster("algo-2", "algo-1")


def test_a_host_has_its_own_name_files_and_processes(cluster: Cluster, tmp_path: Path) -> None:
    host = cluster["algo-1"]
    host.start(["sh", "-c", "hostname; echo $$; touch /opt/ml/output/seen /root/gone; ls -a /etc/hosts"], ENVIRON)
    assert host.wait(20) == 0
    assert host.text.splitlines()[:2] == ["ip-10-231-0-2.ec2.internal", "1"]
    assert (host.ml / "output" / "seen").exists()
    assert not Path("/root/gone").exists()
    assert tmp_path in host.folder.parents


def test_hosts_know_each_other_by_name_and_refuse_where_nobody_listens(cluster: Cluster) -> None:
    assert connect(cluster) == "refused"


def test_what_is_dropped_is_silent_and_what_is_rejected_is_refused(cluster: Cluster) -> None:
    faults.drop(cluster["algo-2"], "tcp dport 7777")
    assert connect(cluster) == "silent"
    assert connect(cluster, port=7778) == "refused"
    faults.heal(cluster["algo-2"])
    faults.reject(cluster["algo-2"], "tcp dport 7777")
    assert connect(cluster) == "refused"


def test_a_pulled_cable_is_silent_until_it_is_plugged_in(cluster: Cluster) -> None:
    faults.pull_cable(cluster["algo-2"])
    assert connect(cluster) == "silent"
    faults.plug_cable(cluster["algo-2"])
    deadline = time.monotonic() + 40
    while connect(cluster) != "refused":
        assert time.monotonic() < deadline


def test_a_name_can_be_unknown(cluster: Cluster) -> None:
    cluster["algo-1"].knows({})
    assert connect(cluster) == "unknown"


def test_nearly_all_packets_can_be_lost(cluster: Cluster) -> None:
    faults.lose(cluster["algo-2"], 99)
    assert any(connect(cluster) == "silent" for _ in range(3))  # in 2 of 100 attempts one of its answers comes through


def test_a_slow_line_is_as_slow_as_it_is_told(cluster: Cluster) -> None:
    faults.slow_down(cluster["algo-2"], "8mbit")
    shown = subprocess.run(
        [
            "/usr/bin/nsenter",
            f"--net=/run/netns/{cluster['algo-2'].namespace}",
            "/usr/sbin/tc",
            "qdisc",
            "show",
            "dev",
            "eth0",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "tbf" in shown.stdout
    assert "rate 8Mbit" in shown.stdout


def test_the_end_of_process_1_is_the_end_of_all_on_its_host(cluster: Cluster) -> None:
    host = cluster["algo-1"]
    host.start(["sh", "-c", "setsid sleep 60 & exec sleep 1"], ENVIRON)
    time.sleep(0.5)
    assert len([process for process in host.processes() if process.name() == "sleep"]) == 2
    host.wait(20)
    assert not host.processes()


def test_two_clusters_live_side_by_side_and_nothing_of_them_stays(make_cluster: MakeCluster) -> None:
    clusters = [make_cluster("algo-1", "algo-2") for _ in range(2)]
    for cluster in clusters:
        assert connect(cluster) == "refused"
        cluster["algo-2"].start(["sleep", "60"], ENVIRON)
    names = [name for cluster in clusters for name in (cluster.name, *(h.namespace for h in cluster.hosts.values()))]
    for cluster in clusters:
        cluster.close()
    assert not [name for name in names if Path("/run/netns", name).exists()]
    mounts = Path("/proc/self/mounts").read_text()
    assert not [cluster for cluster in clusters if str(cluster.folder) in mounts]
