"""What AWS documents of SMDDP, a closed library: docs/aws-assumptions.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from operations import DOCUMENTED, INIT, WORKS
from trials import EXIT

if TYPE_CHECKING:
    from conftest import Trial

needs = pytest.mark.needs
pytestmark = needs("SMDDP")


def works(outcomes: dict[str, str]) -> None:
    for rank, outcome in outcomes.items():
        assert outcome == WORKS, rank


def refuses(outcomes: dict[str, str]) -> None:
    """An error: to work, to hang and to crash are not that."""
    for rank, outcome in outcomes.items():
        assert outcome.startswith("raises "), rank


@pytest.mark.parametrize("operation", [INIT, *DOCUMENTED])
def test_smddps_documented_collectives_work(trial: Trial, operation: str) -> None:
    works(trial("smddp", operation))


@pytest.mark.parametrize("operation", ["all_reduce_avg", "all_reduce_max"])
def test_smddp_refuses_reductions_other_than_sum(trial: Trial, operation: str) -> None:
    refuses(trial("smddp", operation))


def test_smddp_broadcasts_objects_by_tensors_on_the_device(trial: Trial) -> None:
    works(trial("smddp", "broadcast_object"))


@needs("a GPU")
def test_smddp_refuses_cpu_tensors(trial: Trial) -> None:
    refuses(trial("smddp", "cpu_tensor"))


@pytest.mark.parametrize("operation", ["gather", "scatter", "all_to_all", "barrier_device_ids"])
def test_smddp_refuses_what_its_documentation_does_not_list(trial: Trial, operation: str) -> None:
    refuses(trial("smddp", operation))


@pytest.mark.parametrize("operation", ["gloo_group_beside", "new_group"])
def test_smddp_refuses_further_groups_also_on_gloo(trial: Trial, operation: str) -> None:
    refuses(trial("smddp", operation))


@needs("a GPU", "torch 2.3")
@pytest.mark.parametrize("operation", [INIT, "all_reduce_sum", "barrier"])
def test_smddp_works_or_raises_with_device_id(trial: Trial, operation: str) -> None:
    for rank, outcome in trial("smddp_device_id", operation).items():
        assert outcome.startswith((WORKS, "raises ")), rank


def test_smddps_group_is_made_again_after_it_was_destroyed(trial: Trial) -> None:
    works(trial("smddp", "second_init"))


def test_a_process_ends_that_has_not_destroyed_its_smddp_group(trial: Trial) -> None:
    works(trial("smddp_exit", EXIT))
