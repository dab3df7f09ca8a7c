from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.smddp.availability import Availability, availability

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.usefixtures("library")
def test_a_library_that_is_not_installed_is_a_problem_without_a_cause() -> None:
    found = availability()
    assert "not installed" in str(found.problem)
    assert found.cause is None


def test_a_library_that_imports_is_no_problem_and_tells_its_version(library: Callable[[str], None]) -> None:
    library("")
    assert availability() == Availability(version="2.3.0")


@pytest.mark.parametrize(
    "error",
    ["ImportError('libnccl.so')", "RuntimeError('ml.g5.12xlarge is not supported')", "OSError(2, 'x')", "1 / 0"],
)
def test_whatever_the_import_raises_is_a_problem_and_its_cause_is_kept(
    library: Callable[[str], None], error: str
) -> None:
    library(f"raise {error}" if "/" not in error else error)
    found = availability()
    assert found.cause is not None
    assert type(found.cause).__name__ in str(found.problem)


def test_the_library_is_imported_once(library: Callable[[str], None]) -> None:
    library("import builtins\nbuiltins.smddp_imports = getattr(builtins, 'smddp_imports', 0) + 1\nraise OSError")
    import builtins  # noqa: PLC0415

    availability()
    availability()
    assert vars(builtins).pop("smddp_imports") == 1
