"""What SMDDP cannot do, the fake SMDDP cannot do, and says so in the real one's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("fake SMDDP")  # the worlds are shared by all tests
Worlds = Callable[..., Any]


@pytest.fixture
def answers(mpirun: Any) -> dict[str, str]:
    """What rank 0 got to hear under mpirun, where both ranks hear the same."""
    first, second = mpirun.results
    assert first == {**second, "recv": first["recv"], "send": first["send"]}
    return dict(first)


@pytest.mark.parametrize("op", ["AVG", "MIN", "MAX", "PRODUCT", "BAND", "BOR", "BXOR"])
def test_reductions_but_sum_are_refused(answers: dict[str, str], op: str) -> None:
    assert answers["all_reduce SUM"] == "done"
    assert answers[f"all_reduce {op}"].startswith(f"RuntimeError: SMDDP does not support: ReduceOp ({op};")


def test_reduce_is_limited_to_sum_too(answers: dict[str, str]) -> None:
    assert answers["reduce MAX"].startswith("RuntimeError: SMDDP does not support: ReduceOp (MAX;")


@pytest.mark.parametrize(
    "question",
    [
        "new_group None",
        "new_group gloo",
        "new_group smddp",
        "new_group of one",
        "new_subgroups",
        "mesh of two dimensions",
    ],
)
def test_groups_beside_the_default_one_are_refused(answers: dict[str, str], question: str) -> None:
    assert "SMDDP does not support: new_group (documented as unsupported;" in answers[question]


def test_second_backend_in_one_group_is_refused(answers: dict[str, str]) -> None:
    assert answers["second backend"].startswith("RuntimeError: SMDDP does not support: init_process_group(")


def test_smddp_group_beside_another_default_group_is_refused(answers: dict[str, str]) -> None:
    assert answers["smddp beside gloo"].startswith("RuntimeError: SMDDP does not support: new_group")


def test_other_groups_are_free_again_after_the_end(answers: dict[str, str]) -> None:
    assert answers["gloo after the end"] == "done"


def test_group_after_its_end_says_so(answers: dict[str, str]) -> None:
    assert answers["after the end"].startswith("RuntimeError: all_reduce: the process group was destroyed")


def test_mesh_over_the_default_group_works(answers: dict[str, str]) -> None:
    assert answers["mesh of one dimension"] == "done"


def test_barrier_is_refused_with_device_ids_only(answers: dict[str, str]) -> None:
    assert answers["barrier"] == "done"
    assert answers["barrier device_ids"].startswith("RuntimeError: SMDDP does not support: barrier(device_ids=...)")


@pytest.mark.parametrize(
    ("question", "method"),
    [
        ("gather", "gather"),
        ("scatter", "scatter"),
        ("all_to_all", "alltoall"),
        ("all_to_all_single", "alltoall_base"),
        ("send", "send"),
        ("recv", "recv"),
        ("recv from any", "recv_anysource"),
        ("all_reduce_coalesced", "allreduce_coalesced"),
        ("all_gather_coalesced", "allgather_coalesced"),
        ("all_gather_into_tensor", "_allgather_base"),
        ("reduce_scatter", "reduce_scatter"),
        ("reduce_scatter_tensor", "_reduce_scatter_base"),
        ("sparse", "sparse tensors"),
        ("meta", "meta tensors"),
    ],
)
def test_everything_else_is_refused(answers: dict[str, str], question: str, method: str) -> None:
    assert answers[question].startswith(f"RuntimeError: SMDDP does not support: {method} (")


@pytest.mark.parametrize("launcher", ["torchrun", "option"])
def test_allgather_side_is_on_under_torchrun_and_by_option(
    world: Worlds, mpirun_with_option: Any, launcher: str
) -> None:
    for result in (world("limits", torchrun=True) if launcher == "torchrun" else mpirun_with_option).results:
        for question in ("all_gather_into_tensor", "reduce_scatter", "reduce_scatter_tensor"):
            assert result[question] == "done"
        assert "does not support: ReduceOp (AVG;" in result["reduce_scatter_tensor AVG"]
        assert "does not support: alltoall" in result["all_to_all"]


def test_group_has_no_backend_by_device_as_python_groups_have_none(answers: dict[str, str]) -> None:
    assert "No backend type associated with device type cuda" in answers["device"]


def test_group_has_its_names(answers: dict[str, str]) -> None:
    assert answers["name"] == "smddp smddp 0 default_pg"


def test_no_device_gets_smddp_for_its_default_backend(answers: dict[str, str]) -> None:
    assert "smddp" not in answers["defaults"]
    assert "'cpu': 'gloo'" in answers["defaults"]
