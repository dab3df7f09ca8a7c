"""Tensors of every kind over the fake SMDDP give what native DDP gives; on gloo see tests/beside_stock."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.smddp.test_training import simulate

REFUSED = ("sparse", "sparse with repetitions")  # by SMDDP, as far as is known
BEYOND = ("product complex64",)  # what torch refuses is no limit where values are gathered


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """By strategy, what each rank has found."""
    found = {}
    for strategy in ("smddp", "ddp"):
        out = tmp_path_factory.mktemp(strategy)
        job = simulate("every_tensor.py", "--strategy", strategy, "--out", out, hosts=1, processes=2)
        assert job.returncode == 0, job.stdout + job.stderr
        found[strategy] = [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)]
    return found


@pytest.mark.xdist_group("every tensor")
@pytest.mark.parametrize("api", ["fabric", "trainer"])
def test_every_kind_of_tensor_gives_the_same_values_or_an_error_too(answers: dict[str, list[Any]], api: str) -> None:
    for ours, native in zip(answers["smddp"], answers["ddp"], strict=True):
        assert [ours["backend"], native["backend"]] == ["smddp", "gloo"]
        assert ours[api].keys() == native[api].keys()
        assert len(ours[api]) > 300
        different = {
            question: (native[api][question], answer)
            for question, answer in ours[api].items()
            if answer != native[api][question]
            and not (isinstance(answer, str) and isinstance(native[api][question], str))
        }
        refused = {f"{operation} {kind}" for operation in ("mean", "sum") for kind in REFUSED}
        assert different.keys() == refused.union(BEYOND), different


@pytest.mark.xdist_group("every tensor")
def test_what_smddp_cannot_reduce_is_an_error(answers: dict[str, list[Any]]) -> None:
    found = answers["smddp"][0]["trainer"]
    assert {found[f"{operation} {kind}"] for operation in ("mean", "sum") for kind in REFUSED} == {"RuntimeError"}
