from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.distributed.rendezvous import limit_of, open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker import SageMakerJob

    MakeJob = Callable[..., SageMakerJob]

VARIABLE = "LIGHTNING_SAGEMAKER_REACHABILITY"


def test_a_port_that_another_process_holds_is_an_error_of_rank_zero_that_names_it(
    make_job: MakeJob, open_port: int
) -> None:
    job = make_job(main_port=open_port, current_host="algo-2", node_rank=0, rank=0)
    with pytest.raises(OSError, match=rf"Rank 0 cannot listen at 127.0.0.1:{open_port} of algo-2.*HINT"):
        open_store(job, timedelta(seconds=5), 5)


def test_one_host_has_nothing_to_check(make_job: MakeJob) -> None:
    assert limit_of(make_job(num_nodes=1)) == 0


@pytest.mark.parametrize(("value", "limit"), [(None, 120), ("", 120), ("0", 0), ("7.5", 7.5)])
def test_the_limit_is_a_setting_and_zero_switches_the_check_off(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, value: str | None, limit: float
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    assert limit_of(make_job()) == limit


@pytest.mark.parametrize("value", ["-1", "soon", "nan", "inf"])
def test_a_malformed_limit_is_an_error_that_names_the_variable(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ValueError, match=rf"`{VARIABLE}`='{value}'; expected a number of seconds.*default, 120 s"):
        limit_of(make_job())
