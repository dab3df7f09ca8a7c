"""Files from one process to another: complete or not at all."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.checkpoint import transfer
from lightning_sagemaker.checkpoint.transfer import Server, receive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEGABYTE = 1 << 20
RECEIVE = """
import json, sys
from pathlib import Path
from lightning_sagemaker.checkpoint.transfer import receive
receive(json.loads(sys.argv[1]), Path(sys.argv[2]), "algo-2", lambda: (print("piece", flush=True), sys.stdin.read(1)))
"""
SERVE = """
import json, sys
from pathlib import Path
from lightning_sagemaker.checkpoint.transfer import Server
server = Server("algo-1", "127.0.0.1")
print(json.dumps(server.offer("key", Path(sys.argv[1]))), flush=True)
sys.stdin.read(1)
"""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("algo-1", "127.0.0.1")
    yield server
    server.close()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.ckpt"
    path.write_bytes(os.urandom(MEGABYTE) * 40)
    return path


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The other host's place for the file, in folders that it does not have."""
    return tmp_path / "there" / "a" / "large.ckpt"


def nothing() -> None:
    pass


def test_a_file_arrives_with_its_folders_and_is_not_sent_twice(server: Server, large: Path, there: Path) -> None:
    offer = server.offer("key", large)
    assert receive(offer, there, "algo-2", nothing)
    assert there.read_bytes() == large.read_bytes()
    assert not receive(offer, there, "algo-2", nothing)
    large.write_bytes(b"another")
    assert receive(offer, there, "algo-2", nothing), "a newer version is another file"
    assert [path.name for path in there.parent.iterdir()] == ["large.ckpt"]
    assert there.read_bytes() == b"another"


def test_only_what_was_offered_is_sent_and_only_to_those_who_know_the_word(
    server: Server, large: Path, there: Path
) -> None:
    offer = server.offer("key", large)
    for changed in ({"word": "guessed"}, {"word": ""}):
        with pytest.raises(ConnectionError, match="no answer from algo-1"):
            receive(offer | changed, there, "algo-2", nothing)
    for key in ("another", str(large)):
        with pytest.raises(FileNotFoundError, match="it is not offered"):
            receive(offer | {"key": key}, there, "algo-2", nothing)
    for text in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\0\x02[]", b"\0\x04null", b"\xff\xff" + b"x" * 9000):
        # The connection is closed as soon as the question is none.
        with suppress(OSError), socket.create_connection((offer["address"], offer["port"])) as stranger:
            stranger.sendall(text)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(1) == b""
    assert receive(offer, there, "algo-2", nothing), "strangers do no harm"


def test_a_file_that_is_gone_is_an_error_that_names_it(server: Server, large: Path, there: Path) -> None:
    offer = server.offer("key", large)
    large.unlink()
    with pytest.raises(FileNotFoundError, match=r"algo-1 cannot read it: .*large\.ckpt"):
        receive(offer, there, "algo-2", nothing)
    assert not there.parent.exists()


def test_a_file_that_is_cut_while_it_is_sent_leaves_the_one_of_before(server: Server, large: Path, there: Path) -> None:
    offer = server.offer("key", large)
    there.parent.mkdir(parents=True)
    there.write_bytes(b"before")
    with pytest.raises(ConnectionError, match="before the end of"):
        receive(offer, there, "algo-2", lambda: os.truncate(large, 0))
    assert there.read_bytes() == b"before"
    assert [path.name for path in there.parent.iterdir()] == ["large.ckpt"]


def test_a_receiver_killed_in_the_middle_leaves_nothing_at_the_name_and_the_next_one_clears_up(
    server: Server, large: Path, there: Path
) -> None:
    offer = server.offer("key", large)
    with subprocess.Popen(
        [sys.executable, "-c", RECEIVE, json.dumps(offer), str(there)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == b"piece\n"
        receiver.send_signal(signal.SIGKILL)
    assert not there.exists()
    assert len(list(there.parent.glob(".*.part"))) == 1
    assert receive(offer, there, "algo-2", nothing)
    assert [path.name for path in there.parent.iterdir()] == ["large.ckpt"]


def serve(path: Path) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def test_a_sender_killed_in_the_middle_is_an_error_and_nothing_is_left(large: Path, there: Path) -> None:
    process, offer = serve(large)
    with process, pytest.raises(ConnectionError):
        receive(offer, there, "algo-2", process.kill)
    assert not list(there.parent.iterdir())


def test_a_process_that_ends_lets_those_it_serves_have_the_rest_and_is_not_kept_by_others(
    large: Path, there: Path
) -> None:
    process, offer = serve(large)
    with process:
        ended = False

        def end() -> None:
            nonlocal ended
            assert process.stdin is not None
            if not ended:
                process.stdin.close()
                ended = True
            assert process.poll() is None

        assert receive(offer, there, "algo-2", end)
        assert process.wait(20) == 0
    assert there.read_bytes() == large.read_bytes()
    process, offer = serve(large)
    begin = time.monotonic()
    with process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0
    assert time.monotonic() - begin < 5


def test_who_asks_byte_by_byte_is_left_after_a_while_and_the_next_one_is_served(
    server: Server, large: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_HASTE", 0.5)
    offer = server.offer("key", large)
    with socket.create_connection((offer["address"], offer["port"])) as slow:
        slow.sendall((4000).to_bytes(2, "big"))
        with pytest.raises(OSError):  # noqa: PT011 - which one is the system's choice
            drip(slow)
    assert receive(offer, there, "algo-2", nothing)


def drip(connection: socket.socket) -> None:
    for _ in range(1000):
        connection.sendall(b"x")
        time.sleep(0.05)


def test_where_the_system_has_no_thread_left_the_next_one_is_served(
    server: Server, large: Path, there: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    offer, start, failures = server.offer("key", large), threading.Thread.start, [1]

    def start_or_fail(thread: threading.Thread) -> None:
        if failures.pop() if failures else 0:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    with pytest.raises(OSError, match=r"no answer from|reset"):
        receive(offer, there, "algo-2", nothing)
    assert receive(offer, there, "algo-2", nothing)
    assert "cannot start a thread" in caplog.text


def test_a_connection_that_cannot_be_accepted_is_not_the_last_one(
    server: Server, large: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [OSError(errno.EMFILE, "too many open files")] * 3
    monkeypatch.setattr(server, "_listener", Failing(server._listener, failing))
    offer = server.offer("key", large)
    with socket.create_connection((offer["address"], offer["port"])):  # ends the `accept` that has begun
        pass
    assert receive(offer, there, "algo-2", nothing)
    assert failing == []


class Failing:
    """A listener whose next calls of ``accept`` fail."""

    def __init__(self, listener: socket.socket, errors: list[OSError]) -> None:
        self._listener = listener
        self._errors = errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def accept(self) -> Any:
        if self._errors:
            raise self._errors.pop()
        return self._listener.accept()
