"""What processes of one host tell each other, and who of them needs no connection for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined] # missing in torch's own list

from lightning_sagemaker.distributed import participants, sigterm
from lightning_sagemaker.distributed.participants import HostStore, Participants, host_store
from lightning_sagemaker.distributed.sigterm import StopAgreement
from lightning_sagemaker.distributed.store import read, write, write_first

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lightning_sagemaker import SageMakerJob
    from lightning_sagemaker.distributed.store import TCPStore


def test_looking_makes_no_file(tmp_path: Path) -> None:
    assert read(HostStore(tmp_path / "store"), "origin", str) is None
    assert list(tmp_path.iterdir()) == []


def test_what_another_process_sets_is_read_and_its_first_text_stands(tmp_path: Path) -> None:
    here = HostStore(tmp_path / "store")
    pid = os.fork()
    if pid == 0:
        there = HostStore(tmp_path / "store")
        write(there, "passed/1", 7)
        os._exit(write_first(there, "origin", "rank 1") != "rank 1")
    assert os.waitpid(pid, 0)[1] == 0
    assert read(here, "passed/1", int) == (7,)
    assert read(here, "passed/2", int) is None
    assert write_first(here, "origin", "rank 0") == "rank 1"


@pytest.mark.parametrize("word", [None, "../../etc/passwd", b"\xff\0"])
def test_processes_of_a_host_have_one_file_and_those_of_another_host_another(word: str | bytes | None) -> None:
    store = HashStore()
    if word is not None:  # a stranger's
        store.set("word", word)  # type: ignore[arg-type] # bytes are taken
    one, same, other = (host_store(store, number).path for number in (0, 0, 1))
    assert one == same != other
    assert one.parent == other.parent
    assert host_store(HashStore(), 0).path != one


def test_the_last_rank_of_a_host_to_end_after_sigterm_removes_the_file(tmp_path: Path) -> None:
    ranks = [
        StopAgreement(Participants(HostStore(tmp_path / "store"), rank, range(2)), f"rank {rank}") for rank in (0, 1)
    ]
    ranks[1].request()
    for rank in ranks:
        assert rank._decided.wait(60)
    assert ranks[0].origin == "rank 1"
    ranks[0]._leave()
    assert (tmp_path / "store").exists()
    ranks[1]._leave()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("local_rank", "connects"), [(0, True), (1, False), (3, False)])
def test_only_the_first_process_of_a_host_connects_to_the_store(
    make_job: Callable[..., SageMakerJob],
    store: TCPStore,
    monkeypatch: pytest.MonkeyPatch,
    local_rank: int,
    connects: bool,
) -> None:
    made: list[object] = []
    monkeypatch.setattr(participants, "own_connection", lambda timeout, **_: made.append(timeout))
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        job = make_job(node_rank=1, local_rank=local_rank, rank=4 + local_rank, world_size=8)
        found = sigterm.agreement(job, lambda: None)
        assert found is not None
        found._leave()
    finally:
        sigterm._made.pop(dist.group.WORLD, None)
        dist.destroy_process_group()
    assert bool(made) == connects


@pytest.mark.parametrize("hosts", [1, 2, 100, 1000, 10_000])
def test_questions_become_rarer_and_a_stop_still_reaches_all_within_5_s(hosts: int) -> None:
    between = sigterm.interval(hosts)
    assert between >= sigterm._INTERVAL
    assert hosts / between <= 260 or hosts > 1000
    assert sigterm._INTERVAL + between + sigterm._INTERVAL <= 5  # to its host, to the others, to their ranks
