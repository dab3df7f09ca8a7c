from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.distributed as dist

from benchmarks.workers.collectives import in_words, measured, repetitions, sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

CPU = torch.device("cpu")


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of one rank: what is wrong here is wrong in all."""
    store = dist.HashStore()  # type: ignore[attr-defined] # missing in torch's own list
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_sizes_reach_from_1_kib_to_the_largest() -> None:
    assert [in_words(size) for size in sizes(2**30)] == ["1 KiB", "16 KiB", "256 KiB", "4 MiB", "64 MiB", "1 GiB"]


def test_small_sizes_are_repeated_more_often_and_none_too_rarely() -> None:
    assert repetitions(1024) == 50
    assert repetitions(2**30) == 5


@pytest.mark.usefixtures("group")
def test_every_operation_is_measured_at_every_size() -> None:
    found = list(measured(2**14, CPU))
    assert [case for case, _, _ in found] == [
        f"{name}, {size}"
        for name in ("all_reduce", "all_gather", "reduce_scatter", "broadcast")
        for size in ("1 KiB", "16 KiB")
    ]
    assert all(len(seconds) == 50 and min(seconds) > 0 for _, seconds, _ in found)


@pytest.mark.usefixtures("group")
def test_a_wrong_result_ends_the_measurement_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(parts: list[torch.Tensor], mine: torch.Tensor) -> None:
        parts[0].copy_(mine)
        parts[0][3:5].zero_()

    monkeypatch.setattr(dist, "all_gather", broken)
    with pytest.raises(RuntimeError, match="all_gather of 1 KiB on rank 0: 2 values are wrong"):
        list(measured(2**14, CPU))


@pytest.mark.usefixtures("group")
def test_an_operation_that_smddp_has_not_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("SMDDP does not support: reduce_scatter")

    monkeypatch.setattr(dist, "reduce_scatter", refuse)
    cases = [case for case, _, _ in measured(2**10, CPU)]
    assert cases == ["all_reduce, 1 KiB", "all_gather, 1 KiB", "broadcast, 1 KiB"]
    assert "reduce_scatter is left out: SMDDP does not support" in capsys.readouterr().out
