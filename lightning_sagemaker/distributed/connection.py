"""One question to one address: does anything answer?"""

from __future__ import annotations

import ipaddress
import socket
from enum import Enum

PATIENCE = 1.5  # seconds: Linux sends the second SYN after 1 s, so one lost packet is no silence


class Answer(Enum):
    """What an attempt to connect met."""

    OPEN = "something listens there"
    REFUSED = "the host answers, but its process is not there yet"
    UNKNOWN_NAME = "its name is not known yet: its container is not up"
    SILENT = "no answer at all: packets are dropped on the way, or the host is not there"


def try_to_connect(host: str, port: int, patience: float = PATIENCE) -> Answer:
    """Try to connect once.

    Args:
        host: Name or address.
        port: TCP port.
        patience: Seconds to wait for an answer.
    """
    try:
        socket.create_connection((host, port), timeout=patience).close()
    except (socket.gaierror, ValueError):  # the latter of a name that none can be: too long, with NUL in it
        return Answer.UNKNOWN_NAME
    except (ConnectionRefusedError, ConnectionResetError):
        return Answer.REFUSED
    except (
        OSError,
        OverflowError,
    ):  # no answer in time, no way (EHOSTUNREACH, ENETUNREACH), no such port
        return Answer.SILENT
    return Answer.OPEN


def is_loopback(host: str) -> bool:
    """Whether the name or address means this very machine."""
    try:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)
