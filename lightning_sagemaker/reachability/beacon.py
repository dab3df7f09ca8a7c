"""How a host that cannot reach rank 0 tells it so: rank 0 can often reach the host, and its log is the one people read.

On hosts other than rank 0's the main port is free. Who waits there in vain listens on it, and says why.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from lightning_sagemaker.reachability.probe import PATIENCE

_LONGEST = 4096  # bytes of a text
_FINAL = "!"  # first character of a text after which its host ends
_FAREWELL = 5.0  # seconds that a host waits for rank 0 to hear its final text


class Beacon:
    """Says a text to everyone who connects, once there is one.

    Args:
        port: The main port; where it is taken on this host nothing is said.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._text = ""
        self._heard = threading.Event()
        self._server: socket.socket | None = None

    def say(self, text: str) -> None:
        """Say this from now on."""
        self._text = text
        if self._server is None:
            with suppress(OSError):
                self._server = socket.create_server(("", self._port))
                threading.Thread(target=self._serve, args=(self._server,), daemon=True).start()

    def say_last(self, text: str) -> None:
        """Say why this host ends, and wait a little until rank 0 has heard it."""
        if self._server is not None:
            self.say(_FINAL + text)
            self._heard.wait(_FAREWELL)

    def close(self) -> None:
        """Free the port."""
        if self._server is not None:
            with suppress(OSError):
                self._server.shutdown(socket.SHUT_RDWR)  # ends `accept`
            self._server.close()

    def _serve(self, server: socket.socket) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = server.accept()
                with connection, suppress(OSError):
                    text = self._text
                    connection.settimeout(PATIENCE)
                    connection.sendall(text.encode())
                    connection.shutdown(socket.SHUT_WR)
                    if connection.recv(1) and text.startswith(_FINAL):
                        self._heard.set()


def listen(host: str, port: int) -> tuple[str, bool]:
    """What a host says that waits in vain, and whether it ends; an empty text where it says nothing.

    Args:
        host: Name or address.
        port: The main port.
    """
    text = b""
    with suppress(OSError), socket.create_connection((host, port), timeout=PATIENCE) as connection:
        while len(text) < _LONGEST and (part := connection.recv(_LONGEST)):
            text += part
        connection.sendall(b"h")  # heard: a mere attempt to connect sends nothing
    said = text.decode(errors="replace")
    return said.removeprefix(_FINAL), said.startswith(_FINAL)
