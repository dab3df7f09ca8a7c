"""Random bytes at each port and at the store, during a training on two hosts: it ends with the weights of stock."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import torch

from lightning_sagemaker.distributed.reachability import PeerNotifier, notification
from lightning_sagemaker.distributed.store import TCPStore

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).parents[1] / "programs" / "among_strangers.py"
STRINGS = 10_000 if os.environ.get("LIGHTNING_SAGEMAKER_FULL") == "1" else 500
# What the ranks of two hosts of one process have at the store while they train.
KEYS = [
    f"lightning_sagemaker/0/{key}"
    for key in (
        *(f"heartbeat/0/{name}/{rank}" for name in ("process", "beat", "left") for rank in (0, 1)),
        "heartbeat/0/ended",
        *(f"sigterm/0/passed/{rank}" for rank in (0, 1)),
        "sigterm/0/origin",
        "sigterm/0/stop",
        "sigterm/0/left/outcome",
        "sigterm/0/left/arrived",
    )
]


def byte_strings(count: int = STRINGS) -> Iterator[bytes]:
    chance = random.Random(1)  # noqa: S311 - no secret
    for _ in range(count):
        yield chance.randbytes(chance.choice((0, 1, 8, 64, 512, 4096)))


def say_at(port: int, patience: float = 60) -> int:
    """Connect and say each of the byte strings, as a scanner does; some connections stay until the end, silent.

    Returns:
        How many were said: gloo's ports accept nobody any more after a few.
    """
    said = 0
    with ExitStack() as silent:
        for text in byte_strings():
            try:
                connection = socket.create_connection(("127.0.0.1", port), timeout=patience)
            except OSError:
                break
            said += 1
            if said % (STRINGS // 20) == 1:
                silent.enter_context(connection)
                continue
            with connection, suppress(OSError):  # who has heard enough closes the connection
                connection.sendall(text)
    return said


def write_at(port: int) -> None:
    """Set each key of the store to each of the byte strings."""
    store = TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=60))
    for value in byte_strings():
        for key in KEYS:
            store.set(key, value)  # type: ignore[arg-type] # bytes are taken


# Torch's store looks up the name of each client; where the resolver is dead that takes it 5 s a connection.
_WITHOUT_RESOLVER = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /etc/resolv.conf; exec "$@"', "sh"]


def train(folder: Path, *, plugin: bool) -> str:
    """What a training of two hosts printed among strangers."""
    folder.mkdir()
    start = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "lightning_sagemaker.cli",
        "simulate",
        "--verbose",
        "--hosts",
        "2",
        "--distribution",
        "none",
    ]
    command += ["--env", f"LIGHTNING_SAGEMAKER_AUTOLOAD={plugin:d}", "--env", "LIGHTNING_SAGEMAKER_HEARTBEAT=20"]
    command += ["--work-dir", str(folder / "job"), str(PROGRAM), "--", "--folder", str(folder)]
    if os.geteuid() == 0:
        command = [*_WITHOUT_RESOLVER, *command]
    with (folder / "output").open("w+") as output:
        job = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 180
            while not all((folder / f"rank-{rank}").exists() for rank in (0, 1)):
                assert job.poll() is None, (folder / "output").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            time.sleep(0.2)  # they are being written
            began = time.monotonic()
            told = [(folder / f"rank-{rank}").read_text().split() for rank in (0, 1)]
            listening = {
                connection.laddr.port
                for pid, _ in told
                for connection in psutil.Process(int(pid)).net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
            main = int(told[0][1])
            said = {main: say_at(main)}
            said |= {port: say_at(port, patience=2) for port in listening - {main}}
            assert said[main] == STRINGS
            write_at(main)
            print(
                f"plugin={plugin}: {list(said.values())} at the ports, {STRINGS} as each of {len(KEYS)} values,", end=""
            )
            print(f" in {time.monotonic() - began:.1f} s, {began - start:.1f} s after the start")
            (folder / "tried").touch()
            assert job.wait(180) == 0, (folder / "output").read_text()
        finally:
            job.terminate()
            job.wait(60)
    return (folder / "output").read_text()


def test_a_training_among_strangers_ends_with_the_weights_of_stock(tmp_path: Path) -> None:
    printed = {}
    for plugin in (False, True):
        printed[plugin] = train(tmp_path / str(plugin), plugin=plugin)
    stock, ours = (
        [torch.load(tmp_path / str(plugin) / f"weights-{rank}", weights_only=True) for rank in (0, 1)]
        for plugin in (False, True)
    )
    assert all(torch.equal(stock[0][name], one[name]) for one in (*stock, *ours) for name in stock[0])
    complaints = re.findall(r"silent|The job ends|SIGTERM|The training continues|Traceback", printed[True])
    assert not complaints, printed[True]


def test_a_peer_notifier_among_strangers_tells_rank_zero_all_the_same(free_port: int) -> None:
    notifier = PeerNotifier("127.0.0.1", free_port)
    try:
        notifier.notify("no answer")
        assert say_at(free_port) == STRINGS
        assert notification("127.0.0.1", free_port) == ("no answer", False)
        assert not notifier._heard.is_set()
    finally:
        notifier.close()


@pytest.fixture
def speaking_port() -> Iterator[int]:
    """A port at which a stranger says another byte string to each who connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pid = os.fork()
        if pid == 0:
            for said in byte_strings():
                with suppress(OSError), server.accept()[0] as connection:
                    connection.sendall(said)
            os._exit(0)
        yield server.getsockname()[1]
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_rank_zero_hears_nothing_in_what_strangers_say(speaking_port: int) -> None:
    assert {notification("127.0.0.1", speaking_port) for _ in range(STRINGS)} == {("", False)}
