"""Ports of this machine that answer, refuse, or drop what comes."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.distributed.store import TCPStore

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def open_port() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that drops what comes, as a security group does: Linux does so where the queue of a listener is full."""
    with ExitStack() as sockets:
        server = sockets.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(8):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@pytest.fixture
def store() -> TCPStore:
    """A store as rank 0 has it."""
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))
