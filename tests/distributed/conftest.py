"""Ports of this machine that answer, refuse, or drop what comes; ends of the process that are written down."""

from __future__ import annotations

import os
import socket
import threading
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


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Exit codes with which a heartbeat would have ended the process, for as long as one may: it has threads."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    yield codes
    for thread in threading.enumerate():
        if thread.name.startswith("heartbeat"):
            thread.join(60)
            assert not thread.is_alive(), "a heartbeat would end the run of the tests"
