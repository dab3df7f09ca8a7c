from __future__ import annotations

import socket
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined] # missing in torch's own list

from lightning_sagemaker.distributed.interface import (
    address_in_network,
    check_interfaces,
    has_interface,
    set_gloo_interface,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker import SageMakerJob

    MakeJob = Callable[..., SageMakerJob]

EXISTING = socket.if_nameindex()[0][1]
ELSEWHERE = "192.0.2.250"  # not this machine: the rules for hosts on one machine do not apply


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)


@pytest.mark.parametrize(
    ("changes", "before", "after"),
    [
        ({"network_interface": EXISTING}, {}, {"GLOO_SOCKET_IFNAME": EXISTING}),
        ({"network_interface": EXISTING}, {"GLOO_SOCKET_IFNAME": "mine"}, {"GLOO_SOCKET_IFNAME": "mine"}),
        ({"network_interface": "none7"}, {}, {}),
        ({"network_interface": None}, {}, {}),
        ({"network_interface": EXISTING, "num_nodes": 1}, {}, {}),
        ({"network_interface": EXISTING, "main_address": "127.0.0.1"}, {}, {}),
    ],
    ids=["job's", "user's", "absent", "unknown", "one host", "hosts on one machine"],
)
def test_gloo_gets_the_job_s_interface_where_it_exists_and_nobody_chose_another(
    make_job: MakeJob, changes: dict[str, object], before: dict[str, str], after: dict[str, str]
) -> None:
    set_gloo_interface(make_job(**{"main_address": ELSEWHERE, **changes}), before)
    assert before == after


def test_the_address_is_that_of_the_job_s_interface(make_job: MakeJob) -> None:
    assert address_in_network(make_job(main_address=ELSEWHERE, network_interface="lo")) == "127.0.0.1"


def test_without_such_an_interface_it_is_the_one_towards_the_main_address(make_job: MakeJob) -> None:
    assert address_in_network(make_job(main_address="127.0.0.1", network_interface=None)) == "127.0.0.1"


@pytest.mark.parametrize(
    ("variable", "backends"),
    [("GLOO_SOCKET_IFNAME", ("gloo", "cpu:gloo,cuda:nccl")), ("NCCL_SOCKET_IFNAME", ("nccl", "cuda:nccl", "smddp"))],
)
def test_an_interface_that_does_not_exist_is_an_error_that_lists_those_that_do(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, variable: str, backends: tuple[str, ...]
) -> None:
    monkeypatch.setenv(variable, "none7")
    for backend in backends:
        with pytest.raises(ValueError, match=rf"`{variable}`='none7', but algo-1 has the interfaces .*\blo\b.*HINT"):
            check_interfaces(make_job(), backend)


def test_an_interface_for_another_backend_is_not_looked_at(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """SDK v3's local mode names one for NCCL that no container has, and trains over gloo."""
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ethwe")
    check_interfaces(make_job(), "gloo")


# Choice: whether gloo and NCCL find what they need among lo, eth0 and docker0.
CHOICES = {
    "": (True, True),
    "lo": (True, True),
    "lo,eth0": (True, True),
    "lo,": (True, True),
    "lo,none7": (False, True),
    "none7,none8": (False, False),
    "none7": (False, False),
    "eth": (False, True),
    "l": (True, True),
    "x": (True, False),
    "eth0:1234": (False, True),
    "=eth0": (False, True),
    "=eth": (False, False),
    "=eth,lo": (False, True),
    "^docker": (False, True),
    "^lo,eth,docker": (False, False),
    "^=eth": (False, True),
    "^": (True, False),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_of_interfaces_is_read_as_its_library_reads_it(choice: str) -> None:
    present = ("lo", "eth0", "docker0")
    found = tuple(has_interface(f"{library}_SOCKET_IFNAME", choice, present) for library in ("GLOO", "NCCL"))
    assert found == CHOICES[choice]


@pytest.mark.parametrize("choice", ["lo", "lo,lo", "lo,", "x", "lo,none7", "none7", "^lo", "=lo"])
def test_gloo_itself_takes_and_refuses_the_same_choices(monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", choice)
    taken = has_interface("GLOO_SOCKET_IFNAME", choice, [name for _, name in socket.if_nameindex()])
    with nullcontext() if taken else pytest.raises(RuntimeError):
        dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
        dist.destroy_process_group()
