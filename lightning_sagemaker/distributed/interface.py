"""This host's address and interface on the job's network."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

from lightning_sagemaker.distributed.connection import is_loopback

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from lightning_sagemaker.job import SageMakerJob

_GLOO = "GLOO_SOCKET_IFNAME"
_OF_BACKENDS = {"gloo": _GLOO, "nccl": "NCCL_SOCKET_IFNAME", "smddp": "NCCL_SOCKET_IFNAME"}
_SIOCGIFADDR = 0x8915  # ioctl: IPv4 address of an interface (linux/sockios.h)


def set_gloo_interface(job: SageMakerJob, environ: MutableMapping[str, str]) -> None:
    """Let gloo use the job's interface, unless the user chose one.

    By itself gloo takes the one that this host's name resolves to: an unknown name, or Debian's 127.0.1.1, makes one
    rank fail at once and the others wait for five times the time limit (measured, torch 2.13). The toolkit sets
    ``NCCL_SOCKET_IFNAME`` only.
    """
    interface = job.network_interface
    if job.num_nodes > 1 and interface and not is_loopback(job.main_address) and _exists(interface):
        environ.setdefault(_GLOO, interface)


def check_interfaces(job: SageMakerJob, backend: str) -> None:
    """Check the interfaces that collectives are told to use, before anybody waits for this process.

    Args:
        job: The job.
        backend: Backend of the process group, as torch names it. A name for another backend is not looked at: SDK v3's
            local mode names one for NCCL, ``ethwe``, that no container has, and trains over gloo.

    Raises:
        ValueError: ``GLOO_SOCKET_IFNAME`` or ``NCCL_SOCKET_IFNAME`` names an interface that does not exist.
    """
    for variable in [name for word, name in _OF_BACKENDS.items() if word in backend]:
        chosen = os.environ.get(variable, "")
        if chosen and not chosen.startswith(("^", "=")) and "," not in chosen and not _matches(chosen, variable):
            raise ValueError(
                f"Environment variable `{variable}`={chosen!r}, but {job.current_host} has the interfaces"
                f" {', '.join(name for _, name in socket.if_nameindex())}. HINT: remove it from the job's environment:"
                " SageMaker's own choice is right."
            )


def address_in_network(job: SageMakerJob) -> str:
    """Address at which the other hosts reach this one.

    Raises:
        OSError: There is no way to the main address.
    """
    if not is_loopback(job.main_address):
        for interface in (os.environ.get(_GLOO), job.network_interface):
            if interface and (address := _address(interface)):
                return address
    family, kind, protocol, _, target = socket.getaddrinfo(job.main_address, job.main_port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as way:  # connecting a datagram socket sends nothing
        way.connect(target)
        return str(way.getsockname()[0])


def _matches(chosen: str, variable: str) -> bool:
    names = [name for _, name in socket.if_nameindex()]
    return chosen in names if variable == _GLOO else any(name.startswith(chosen) for name in names)


def _exists(interface: str) -> bool:
    return any(name == interface for _, name in socket.if_nameindex())


def _address(interface: str) -> str | None:
    try:
        import fcntl  # noqa: PLC0415 - not on Windows

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            request = struct.pack("256s", interface.encode()[:15])
            return socket.inet_ntoa(fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)[20:24])
    except (ImportError, OSError):  # no such interface, or one without an IPv4 address
        return None
