"""The checks of the network between hosts: addresses, interfaces, EFA."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from lightning_sagemaker.distributed.interface import VARIABLES, has_interface
from lightning_sagemaker.findings import Finding, finding
from lightning_sagemaker.instances import instance
from lightning_sagemaker.simulate.toolkit import has_efa

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_sagemaker.doctor.situation import Situation


def addresses(situation: Situation) -> Iterator[Finding]:
    """The hosts can connect: main address and interfaces."""
    found = situation.job
    if found is not None and situation.over_network and _is_loopback(found.main_address):
        yield finding(
            "main-address-loopback",
            "fail",
            f"{found.num_nodes} hosts train together, but the main address is {found.main_address}: each would wait for"
            " itself.",
            "HINT: remove MASTER_ADDR from the job's environment and from your entry script: it comes from the job.",
        )
    for variable in VARIABLES:
        chosen = situation.environ.get(variable, "")
        if not has_interface(variable, chosen, situation.machine.interfaces):
            yield finding(
                "no-such-interface",
                "fail" if found is not None and found.num_nodes > 1 else "warn",
                f"{variable}={chosen}, but this host has the interfaces {', '.join(situation.machine.interfaces)}.",
                "HINT: remove it from the job's environment: SageMaker's own choice is right.",
            )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def efa(situation: Situation) -> Iterator[Finding]:
    """EFA is used where the instance has it."""
    found, environ, devices = situation.job, situation.environ, situation.machine.efa_devices
    if found is None or not situation.over_network:
        return
    known, provider = instance(found.instance_type or ""), environ.get("FI_PROVIDER")
    if known is not None and known.efa and not devices:
        yield finding(
            "efa-missing",
            "warn",
            f"{found.instance_type} has EFA, but no EFA device is in /sys/class/infiniband: NCCL uses TCP.",
            "HINT: use an AWS training image, and look at the instance type's availability of EFA in your region.",
        )
    elif provider == "efa" and not devices:
        yield finding(
            "efa-missing",
            "warn",
            f"FI_PROVIDER=efa, but {found.instance_type or 'this host'} has no EFA device: NCCL uses TCP.",
            "HINT: nothing to do if you meant TCP (SageMaker's toolkit sets it in `smdistributed` jobs whatever the"
            " instance type); else choose an instance type with EFA.",
        )
    if devices and (provider or "efa") != "efa":
        yield finding(
            "efa-unused",
            "warn",
            f"this host has EFA, but FI_PROVIDER={provider}, so NCCL does not use it.",
            "HINT: remove FI_PROVIDER from the job's environment: SageMaker sets it.",
        )
    if devices and environ.get("NCCL_NET", "").lower() == "socket":
        yield finding(
            "efa-unused",
            "warn",
            f"this host has EFA, but NCCL_NET={environ['NCCL_NET']}, so NCCL does not use it.",
            "HINT: remove NCCL_NET from the job's environment.",
        )
    # What the toolkit's own list says, which is shorter than the list of types with EFA.
    if has_efa(found.instance_type or "") and not provider and found.sdk and found.launcher in ("mpirun", "torchrun"):
        yield finding(
            "efa-provider-unset",
            "warn",
            f"FI_PROVIDER is not set, but SageMaker sets it to efa for {found.launcher} on {found.instance_type}.",
            "HINT: do not filter variables between launcher and script; see in NCCL_DEBUG=INFO that NCCL chose EFA.",
        )
