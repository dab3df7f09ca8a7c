from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.distributed.reachability import PATIENCE, Answer, PeerNotifier, notification, try_to_connect
from lightning_sagemaker.distributed.store import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOCAL = "127.0.0.1"


@pytest.fixture
def notifier(free_port: int) -> Iterator[PeerNotifier]:
    notifier = PeerNotifier(LOCAL, free_port)
    yield notifier
    notifier.close()


def test_who_connects_hears_the_newest_text_and_that_the_host_goes_on(notifier: PeerNotifier, free_port: int) -> None:
    notifier.notify("first")
    assert notification(LOCAL, free_port) == ("first", False)
    notifier.notify("second")
    assert notification(LOCAL, free_port) == ("second", False)


def test_a_host_that_ends_is_heard_to_the_end_by_who_listens_and_not_by_who_only_connects(
    notifier: PeerNotifier, free_port: int
) -> None:
    heard: list[tuple[str, bool]] = []

    def hear() -> None:
        while not heard or not heard[-1][1]:
            assert try_to_connect(LOCAL, free_port) is Answer.OPEN
            heard.append(notification(LOCAL, free_port))
            time.sleep(0.05)

    notifier.notify("no answer so far")
    listener = threading.Thread(target=hear)
    listener.start()
    time.sleep(0.2)
    notifier.notify_last("no answer at all")
    notifier.close()
    listener.join()
    assert heard[0] == ("no answer so far", False)
    assert heard[-1] == ("no answer at all", True)


def test_who_has_nothing_to_say_does_not_listen(notifier: PeerNotifier, free_port: int) -> None:
    notifier.notify_last("the end")
    assert notification(LOCAL, free_port) == ("", False)


def test_a_port_that_is_taken_keeps_the_host_mute_and_harms_nobody(open_port: int) -> None:
    notifier = PeerNotifier(LOCAL, open_port)
    notifier.notify("no answer")
    notifier.notify_last("the end")
    notifier.close()


def test_a_closed_notifier_frees_the_port(notifier: PeerNotifier, free_port: int) -> None:
    notifier.notify("no answer")
    notifier.close()
    assert try_to_connect(LOCAL, free_port) is Answer.REFUSED


def tls_hello() -> bytes:
    """The first bytes of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="algo-1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def strangers() -> list[bytes]:
    """What others say at a port: nothing, a browser, TLS, SSH, random bytes."""
    chance = random.Random(0)  # noqa: S311 - no secret
    said = [b"", b"GET / HTTP/1.1\r\n\r\n", tls_hello(), b"SSH-2.0-OpenSSH_9.2\r\n", b"h", b"!the end", b"\0" * 100_000]
    return said + [chance.randbytes(chance.randrange(1, 5000)) for _ in range(100)]


def test_strangers_who_connect_keep_nobody_waiting_and_are_not_rank_zero(
    notifier: PeerNotifier, free_port: int
) -> None:
    notifier.notify("no answer so far")
    silent = [socket.create_connection((LOCAL, free_port)) for _ in range(30)]
    start = time.monotonic()
    assert notification(LOCAL, free_port) == ("no answer so far", False)
    assert time.monotonic() - start < PATIENCE  # not after thirty times as long
    for connection in silent:
        connection.close()
    last = threading.Thread(target=notifier.notify_last, args=("no answer at all",))
    last.start()
    for said in strangers():
        with socket.create_connection((LOCAL, free_port)) as connection:
            connection.sendall(said)
    assert last.is_alive()  # it still waits for rank 0
    assert notification(LOCAL, free_port) == ("no answer at all", True)
    last.join(20)
    assert notifier._heard.is_set()


def test_more_connections_than_can_be_served_are_closed_and_later_ones_are_served(
    notifier: PeerNotifier, free_port: int
) -> None:
    notifier.notify("no answer")
    before = threading.active_count()
    crowd = [socket.create_connection((LOCAL, free_port)) for _ in range(200)]
    assert threading.active_count() - before <= 64
    time.sleep(PATIENCE + 0.5)
    assert notification(LOCAL, free_port) == ("no answer", False)
    for connection in crowd:
        connection.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], object]], int]]:
    """Listen on a port of this machine, and do something with each connection."""
    servers: list[socket.socket] = []
    gone = threading.Event()

    def accept(server: socket.socket, act: Callable[[socket.socket], object]) -> None:
        while not gone.is_set():
            with suppress(OSError), server.accept()[0] as connection:
                act(connection)

    def serve(act: Callable[[socket.socket], object]) -> int:
        servers.append(socket.create_server((LOCAL, 0)))
        threading.Thread(target=accept, args=(servers[-1], act), daemon=True).start()
        return int(servers[-1].getsockname()[1])

    yield serve
    gone.set()
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def drip(connection: socket.socket) -> None:
    """Send a byte now and then, as long as anybody listens."""
    for char in encode(LOCAL, True, "the end"):
        connection.sendall(char.encode())
        time.sleep(0.4)


def test_a_peer_that_drips_is_listened_to_no_longer_than_one_that_is_silent(
    serve: Callable[[Callable[[socket.socket], object]], int],
) -> None:
    ports = [serve(drip), serve(lambda connection: connection.recv(1))]
    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda port: notification(LOCAL, port), ports)) == [("", False)] * 2
    assert time.monotonic() - start < 3 * PATIENCE  # dripping alone takes many times as long


def test_only_the_host_that_was_asked_can_say_that_it_ends(
    serve: Callable[[Callable[[socket.socket], object]], int],
) -> None:
    said = iter([*strangers(), encode("algo-9", True, "the end").encode(), encode(LOCAL, True, "really").encode()])
    port = serve(lambda connection: connection.sendall(next(said)))
    heard = [notification(LOCAL, port) for _ in range(len(strangers()) + 2)]
    assert set(heard[:-1]) == {("", False)}
    assert heard[-1] == ("really", True)


def test_an_address_that_none_can_be_is_no_error() -> None:
    for port in (-1, 70_000, 10**30):
        try_to_connect(LOCAL, port)
    assert [try_to_connect(name, 22) for name in ("a" * 300, "a\0b", "\udcff.invalid")] == [Answer.UNKNOWN_NAME] * 3
