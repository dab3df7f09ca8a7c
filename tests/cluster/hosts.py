"""Hosts of a test: network namespaces on a bridge, and a root file system of its own for all that runs on one of them.

    with Cluster(("algo-2", "algo-1"), folder) as cluster:
        host = cluster["algo-1"]
        host.start(["hostname"], {})
        ...
        host.wait(20)

What a host runs is process 1 of a process namespace: its end is the end of everything on that host, as with a
container. Mounts are private to it, so nothing of them can be left behind; the network is removed by `close`.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ..leftovers import PREFIX  # noqa: TID252 - importmode=importlib

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

_clusters = itertools.count()
_NETWORK = "10.231.0"  # seen by nothing but the bridge of one cluster

# $1 the host's folder, $2 a folder to share, $3 the host's name in its own eyes; then the command. The machine's root
# lies under an overlay whose upper layer is memory. Key pair, `StrictHostKeyChecking` and PAM are what SageMaker's
# images have for mpirun.
_ENTER = r"""
set -e
host=$1 shared=$2; hostname "$3"; shift 3
layers=$host/layers
mount -t tmpfs none "$layers"
mkdir "$layers/upper" "$layers/work" "$layers/root"
root=$layers/root
mount -t overlay none -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" "$root"
mount --rbind /dev "$root/dev"
mount -t tmpfs none "$root/dev/shm"
mount -t proc none "$root/proc"
mount -t sysfs none "$root/sys"
mkdir -p "$root/opt/ml" "$root/run/sshd" "$root$shared" "$root/root/.ssh"
mount --bind "$host/ml" "$root/opt/ml"
mount --bind "$shared" "$root$shared"
touch "$root/etc/hosts" "$root/etc/resolv.conf" "$root/etc/environment"
mount --bind "$host/hosts" "$root/etc/hosts"
rm -f "$root/etc/resolv.conf" "$root/etc/environment"
touch "$root/etc/resolv.conf" "$root/etc/environment"
if [ -e "$shared/ssh-key" ]; then
    install -m 600 "$shared/ssh-key" "$root/root/.ssh/id_rsa"
    install -m 600 "$shared/ssh-key.pub" "$root/root/.ssh/authorized_keys"
    printf 'StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n' > "$root/root/.ssh/config"
    sed -i 's/required\(.*pam_loginuid\)/optional\1/' "$root/etc/pam.d/sshd"
fi
mkdir "$root/.machine"
cd "$root"
pivot_root . .machine
umount -l /.machine
cd /opt/ml
exec "$@"
"""


class Host:
    """One host: its network, its files, and what it runs."""

    def __init__(self, cluster: Cluster, name: str, number: int) -> None:
        self.name = name
        self.address = f"{_NETWORK}.{number}"
        self.hostname = f"ip-{self.address.replace('.', '-')}.ec2.internal"
        self.namespace = f"{cluster.name}-{number}"
        self.port = f"{cluster.name}p{number}"  # of the bridge
        self.bridge_namespace = cluster.name
        self.folder = cluster.folder / name
        self.ml = self.folder / "ml"
        self.lines: list[tuple[float, str]] = []  # seconds since the start, and what was printed then
        self.started = 0.0
        self.seconds = 0.0  # until its end
        self._shared = cluster.shared
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        for part in ("ml/input/config", "ml/input/data", "ml/model", "ml/output/data", "ml/checkpoints", "layers"):
            (self.folder / part).mkdir(parents=True)

    def knows(self, names: Mapping[str, str]) -> None:
        """Let the host resolve these names only, from now on."""
        lines = [f"{address} {name}\n" for name, address in names.items()]
        own = f"127.0.0.1 localhost\n{self.address} {self.name} {self.hostname}\n"
        (self.folder / "hosts").write_text(own + "".join(line for line in lines if self.name not in line.split()))

    def start(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start the host's process 1."""
        enter = ["bash", "-c", _ENTER, "enter", str(self.folder), str(self._shared), self.hostname, *command]
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [
                *("nsenter", f"--net=/run/netns/{self.namespace}"),
                *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", *enter),
            ],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append((time.monotonic() - self.started, line.rstrip("\n")))

    @property
    def text(self) -> str:
        """All that it has printed so far."""
        return "\n".join(line for _, line in self.lines)

    def seconds_until(self, text: str) -> float | None:
        """Seconds from the start until a line held this text; ``None`` so far."""
        return next((second for second, line in self.lines if text in line), None)

    def code(self) -> int | None:
        """Exit code of process 1; ``None`` while it runs."""
        return None if self._process is None else self._process.poll()

    def wait(self, timeout: float) -> int:
        """Wait for the end of everything on this host; the exit code of process 1."""
        assert self._process is not None
        code = self._process.wait(timeout)
        self.seconds = time.monotonic() - self.started
        assert self._reader is not None
        self._reader.join(10)
        return code

    def processes(self) -> list[psutil.Process]:
        """All processes on this host, with their ids on the machine."""
        network = os.stat(f"/run/netns/{self.namespace}").st_ino  # noqa: PTH116 - a file of the kernel's
        found = []
        for process in psutil.process_iter():
            with suppress(OSError):
                if os.stat(f"/proc/{process.pid}/ns/net").st_ino == network:  # noqa: PTH116
                    found.append(process)
        return found

    def kill(self) -> None:
        """Switch the host off, if it runs."""
        if self._process is not None and self._process.poll() is None:
            for child in psutil.Process(self._process.pid).children():  # process 1; `unshare` would leave first
                child.kill()
            self._process.wait(20)

    def failure(self) -> str:
        """What the job page would show of this host."""
        path = self.ml / "output" / "failure"
        return path.read_text() if path.exists() else ""


class Cluster:
    """Hosts that reach each other, and nothing else."""

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self.shared = folder / "shared"  # at the same place on all hosts
        self.shared.mkdir()
        self.name = f"{PREFIX}{next(_clusters)}"
        self.hosts = {name: Host(self, name, number) for number, name in enumerate(names, 1)}

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __enter__(self) -> Cluster:  # noqa: PYI034 - typing has Self since Python 3.11
        try:
            self._connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self) -> None:
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.name, "link", "set", "bridge", "up")
        for host in self.hosts.values():
            ip("netns", "add", host.namespace)
            peer = ("peer", "name", "eth0", "netns", host.namespace)
            ip("-n", self.name, "link", "add", host.port, "type", "veth", *peer)
            ip("-n", self.name, "link", "set", host.port, "master", "bridge", "up")
            ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
            for interface in ("lo", "eth0"):
                ip("-n", host.namespace, "link", "set", interface, "up")
            host.knows({name: other.address for name, other in self.hosts.items()})

    def close(self) -> None:
        """Switch all hosts off, and take the network away."""
        for host in self.hosts.values():
            host.kill()
        for namespace in [host.namespace for host in self.hosts.values()] + [self.name]:
            if Path("/run/netns", namespace).exists():
                ip("netns", "del", namespace)


def ip(*arguments: str) -> None:
    """Run ``ip``; what it complains of is in the error."""
    subprocess.run(["/usr/sbin/ip", *arguments], check=True, capture_output=True, text=True)
