"""This host's address and interface on the job's network."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from lightning_sagemaker.job import SageMakerJob

_GLOO = "GLOO_SOCKET_IFNAME"
_NCCL = "NCCL_SOCKET_IFNAME"
VARIABLES = (_GLOO, _NCCL)
_OF_BACKENDS = {"gloo": _GLOO, "nccl": _NCCL, "smddp": _NCCL}
_SIOCGIFADDR = 0x8915  # ioctl: IPv4 address of an interface (linux/sockios.h)


def set_gloo_interface(job: SageMakerJob, environ: MutableMapping[str, str]) -> None:
    """Make gloo use the job's network interface, unless the user has chosen one.

    By itself gloo takes the one that this host's name resolves to: an unknown name, or Debian's 127.0.1.1, makes one
    rank fail at once and the others wait for five times the time limit (measured, torch 2.13). The toolkit sets
    ``NCCL_SOCKET_IFNAME`` only.
    """
    interface = job.network_interface
    if job.num_nodes > 1 and interface and not is_loopback(job.main_address) and interface in _interfaces():
        environ.setdefault(_GLOO, interface)


def check_interfaces(job: SageMakerJob, backend: str) -> None:
    """Check the interfaces that gloo and NCCL are told to use, before another process waits for this one.

    A name for another backend is not looked at: SDK v3's local mode names one for NCCL, ``ethwe``, that no container
    has, and trains over gloo.
    """
    for variable in [name for word, name in _OF_BACKENDS.items() if word in backend]:
        chosen = os.environ.get(variable, "")
        if not has_interface(variable, chosen, found := _interfaces()):
            raise ValueError(
                f"Environment variable `{variable}`={chosen!r}, but {job.current_host} has the interfaces"
                f" {', '.join(found)}. HINT: remove it from the job's environment: SageMaker's own choice is right."
            )


def has_interface(variable: str, chosen: str, interfaces: Sequence[str]) -> bool:
    """Whether a choice of interfaces leaves the library one that exists.

    gloo needs each name of a list, and torch ignores a value of one character (measured, torch 2.13). NCCL takes any
    interface that begins with one of the names, is one of them (``=``), or does not begin with any (``^``); a port may
    follow a name (``matchIfList`` in NCCL's ``src/misc/utils.cc``).
    """
    if variable == _GLOO:
        return len(chosen) == 1 or all(name in interfaces for name in chosen.split(",") if name)
    excludes = chosen.startswith("^")
    text = chosen.removeprefix("^")
    names = tuple(name.partition(":")[0] for name in text.removeprefix("=").split(",") if name)
    exact = text.startswith("=")
    fits = (not names or (name in names if exact else name.startswith(names)) for name in interfaces)
    return not chosen or any(fit != excludes for fit in fits)


def address_in_network(job: SageMakerJob) -> str:
    """This host's address on the job's network."""
    if not is_loopback(job.main_address):
        for interface in (os.environ.get(_GLOO), job.network_interface):
            if interface and (address := _address(interface)):
                return address
    family, kind, protocol, _, target = socket.getaddrinfo(job.main_address, job.main_port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as way:  # connecting a datagram socket sends nothing
        way.connect(target)
        return str(way.getsockname()[0])


def is_loopback(host: str) -> bool:
    """Whether a name or address is one of the loopback interface, so that it means this machine."""
    try:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)


def _interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def _address(interface: str) -> str | None:
    try:
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            request = struct.pack("256s", interface.encode()[:15])
            return socket.inet_ntoa(fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)[20:24])
    except (ImportError, OSError):  # no such interface, or one without an IPv4 address
        return None
