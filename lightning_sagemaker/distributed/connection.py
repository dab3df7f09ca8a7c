"""One attempt to connect to an address, and the message about a host that does not answer."""

from __future__ import annotations

import ipaddress
import socket
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_sagemaker.job import SageMakerJob

PATIENCE = 1.5  # seconds: Linux sends the second SYN after 1 s, so one lost packet is no silence
FIRST_LINE = 3.0  # seconds of silence, two attempts, before it is said


class Answer(Enum):
    """Outcome of an attempt to connect."""

    OPEN = "something listens there"
    REFUSED = "the host answers, but its process is not there yet"
    UNKNOWN_NAME = "its name is not known yet: its container is not up"
    SILENT = "no answer at all: packets are dropped on the way, or the host is not there"


def try_to_connect(host: str, port: int, patience: float = PATIENCE) -> Answer:
    """Try once to connect, and wait for an answer up to a time limit."""
    try:
        socket.create_connection((host, port), timeout=patience).close()
    except (socket.gaierror, ValueError):  # the latter of a name that none can be: too long, with NUL in it
        return Answer.UNKNOWN_NAME
    except (ConnectionRefusedError, ConnectionResetError):
        return Answer.REFUSED
    except (OSError, OverflowError):  # no answer in time, no way (EHOSTUNREACH, ENETUNREACH), no such port
        return Answer.SILENT
    return Answer.OPEN


def is_loopback(host: str) -> bool:
    """Whether a name or address is one of the loopback interface, so that it means this machine."""
    try:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)


def blocked(job: SageMakerJob, there: str, address: str, seconds: float, tried: str) -> str:
    """Message about a blocked connection; ``tried`` is a clause about what else was tried."""
    by = f" (interface {job.network_interface})" if job.network_interface else ""
    return (
        f"{job.current_host} gets no answer from {there} at {address}{by}: all attempts to connect in the last"
        f" {seconds:.0f} s were dropped on the way; {tried}. Usual cause on SageMaker: the job's security group does"
        " not let its own members talk to each other. HINT: give the security group of VpcConfig two rules, inbound"
        " and outbound, 'all traffic' from and to that security group itself; then look at the subnets' routes and"
        " network ACLs."
    )
