"""Names, interfaces and ports, and process groups without SMDDP: docs/aws-assumptions.md."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from operations import INIT, TRIALS, WORKS
from trials import EXIT

if TYPE_CHECKING:
    from conftest import Gather, Trial
    from ranks import Ranks

needs = pytest.mark.needs
NAMES_LOOKED_UP = 16  # of a large job's hosts


def test_all_ranks_reach_a_further_port_on_the_host_of_rank_0(ranks: Ranks) -> None:
    assert ranks.problem is None, f"{ranks.job.main_address}:{ranks.port}"


def known(name: str) -> bool:
    with suppress(OSError):
        return bool(socket.getaddrinfo(name, None))
    return False


@needs("real hosts")
def test_all_hosts_find_all_hosts_by_name(gather: Gather, ranks: Ranks) -> None:
    def look() -> list[str]:
        names = (socket.gethostname(), ranks.job.main_address, *ranks.job.hosts[:NAMES_LOOKED_UP])
        return [name for name in names if not known(name)]

    for rank, unknown in gather(look).items():
        assert unknown == [], rank


@needs("real hosts", "mpirun")
def test_the_host_of_rank_0_calls_itself_as_sagemaker_does(gather: Gather, ranks: Ranks) -> None:
    seen = gather(lambda: [ranks.rank, socket.gethostname(), ranks.job.current_host])
    assert [own for rank, own, _ in seen.values() if rank == 0] == [
        host for rank, _, host in seen.values() if rank == 0
    ]


def test_the_interface_exists_that_resourceconfig_json_names(gather: Gather, ranks: Ranks) -> None:
    seen = gather(lambda: [ranks.job.network_interface, [name for _, name in socket.if_nameindex()]])
    for rank, (named, present) in seen.items():
        assert named in present, rank


def test_the_jobs_port_is_free_or_held_by_torchruns_agent(gather: Gather, ranks: Ranks) -> None:
    def look() -> Any:
        if ranks.rank != 0:
            return None
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("", ranks.job.main_port))
                trial.listen()
            except OSError as error:
                return str(error)
        return "free"

    (found,) = [answer for answer in gather(look).values() if answer] or ["rank 0 is not heard"]
    assert (found == "free") == (ranks.job.launcher != "torchrun"), found


@pytest.mark.parametrize("operation", [INIT, "all_reduce_sum", EXIT])
def test_a_group_is_made_by_the_jobs_address_and_port(trial: Trial, operation: str) -> None:
    for rank, outcome in trial("gloo", operation).items():
        assert outcome == WORKS, rank


# torchrun's agent keeps the server, and with it the addresses that gloo left in it (seen with torch 2.13).
@needs("another launcher than torchrun")
def test_a_second_group_is_made_by_them_at_once(trial: Trial) -> None:
    for rank, outcome in trial("gloo_again", "second_init").items():
        assert outcome == WORKS, rank


@needs("a GPU")
@pytest.mark.parametrize("operation", [INIT, *TRIALS["nccl"].operations])
def test_nccl_does_what_lightning_asks_of_it(trial: Trial, operation: str) -> None:
    for rank, outcome in trial("nccl", operation).items():
        assert outcome == WORKS, rank
