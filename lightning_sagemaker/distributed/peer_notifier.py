"""Lets a host that cannot reach rank 0 say so: rank 0 can often reach that host, and its log is the one people read.

On hosts other than rank 0's the main port is free. Who waits there in vain listens on it, and says why. Anybody may
connect there and say anything: nobody is waited for longer than :data:`PATIENCE`, nor is another one kept waiting.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

from lightning_sagemaker.distributed.store import LONGEST, decode, encode

PATIENCE = 1.5  # seconds: Linux sends the second SYN after 1 s, so one lost packet is no silence
_FAREWELL = 5.0  # seconds that a host waits for rank 0 to hear its final text
_HEARD = encode("heard").encode()  # a mere attempt to connect says nothing
_AT_ONCE = 64  # connections that are served; those beyond are closed
_PAUSE = 0.1  # seconds after a connection that could not be accepted


class PeerNotifier:
    """Sends a text to everyone who connects to this host's main port; nothing if the port is taken."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._text = ""
        self._ends = False
        self._heard = threading.Event()
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self._server: socket.socket | None = None

    def notify(self, text: str) -> None:
        """Send this text from now on."""
        self._text = text
        if self._server is None:
            with suppress(OSError, RuntimeError):  # the port is taken; no thread is left
                server = socket.create_server(("", self._port), backlog=_AT_ONCE)
                threading.Thread(target=self._serve, args=(server,), daemon=True).start()
                self._server = server

    def notify_last(self, text: str) -> None:
        """Send the reason why this host ends, and wait briefly until rank 0 has received it."""
        if self._server is not None:
            self._text, self._ends = text, True
            self._heard.wait(_FAREWELL)

    def close(self) -> None:
        """Free the port."""
        if self._server is not None:
            with suppress(OSError):
                self._server.shutdown(socket.SHUT_RDWR)  # ends `accept`
            self._server.close()

    def _serve(self, server: socket.socket) -> None:
        while server.fileno() >= 0:  # not closed
            try:
                connection, _ = server.accept()
            except OSError:  # closed; or reset before it was accepted, or no file descriptor is left
                time.sleep(_PAUSE)
                continue
            try:
                if self._free.acquire(blocking=False):
                    threading.Thread(target=self._answer, args=(connection,), daemon=True).start()
                    continue
            except RuntimeError:  # no thread is left
                self._free.release()
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        until = time.monotonic() + PATIENCE
        try:
            with connection, suppress(OSError):
                ends = self._ends
                connection.settimeout(PATIENCE)
                connection.sendall(encode(self._host, ends, self._text).encode())
                connection.shutdown(socket.SHUT_WR)
                if _receive(connection, until) == _HEARD and ends:
                    self._heard.set()
        finally:
            self._free.release()


def notification(host: str, port: int) -> tuple[str, bool]:
    """Text of a host that cannot reach rank 0, and whether that host ends; empty if it says nothing."""
    until = time.monotonic() + PATIENCE
    said = None
    with suppress(OSError), socket.create_connection((host, port), timeout=PATIENCE) as connection:
        said = decode(_receive(connection, until), str, bool, str)
        if said is not None:
            connection.sendall(_HEARD)
    if said is None or said[0] != host:  # no host of the job's, or another one than was asked
        return "", False
    return said[2], said[1]


def _receive(connection: socket.socket, until: float) -> bytes:
    """Everything that the other side sends, unless it is too long or takes too long."""
    message = b""
    while len(message) <= LONGEST and (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        part = connection.recv(LONGEST)
        if not part:
            return message
        message += part
    return b""
