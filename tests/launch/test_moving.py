"""What docs/moving.md says of glue that is left in, in a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..simulate.helpers import run_cli  # noqa: TID252 - importmode=importlib

if TYPE_CHECKING:
    import pytest


def test_aws_recipe_trains_on_all_data_and_its_second_call_fails_as_the_page_says(
    request: pytest.FixtureRequest,
) -> None:
    options = ("--processes-per-host", "2", "--distribution", "torch_distributed")
    done = run_cli(*options, str(request.path.with_name("glue.py")))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    for rank in (0, 1):
        assert f"BATCHES {rank} 32 False" in said
    assert said.count("SECOND 1 KeyError('WORLD_SIZE')") == 2
    assert "chosen cluster environment" not in said
