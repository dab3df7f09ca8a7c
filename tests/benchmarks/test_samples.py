from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.samples import SCHEMA, append, interleaved, read

if TYPE_CHECKING:
    from pathlib import Path

    from tests.benchmarks.conftest import MakeLaunch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "samples.jsonl"


def test_launches_come_back_as_they_were(file: Path, make_launch: MakeLaunch) -> None:
    launches = [
        make_launch(steps=((0.1, 0.2), (0.3, 0.1)), numbers={"loss": 0.5}, labels=("plumbing check",)),
        make_launch("smddp", 1, fake_smddp=True, role="candidate"),
    ]
    for launch in launches:
        append(file, launch)
    assert read(file) == launches
    assert all(json.loads(line)["schema"] == SCHEMA for line in file.read_text().splitlines())


def test_fake_smddp_is_a_label_that_cannot_be_forgotten(make_launch: MakeLaunch) -> None:
    assert make_launch(fake_smddp=True, labels=("a",)).all_labels == ("fake SMDDP", "a")


def test_torn_last_line_is_left_out(file: Path, make_launch: MakeLaunch) -> None:
    append(file, make_launch())
    append(file, make_launch(index=1))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="line 2, the last one: it is torn"):
        assert read(file) == [make_launch()]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (f'"schema": {SCHEMA}', '"schema": 99', "line 1: schema 99"),
        ('"role": "baseline"', '"role": "hero"', "line 1: role 'hero'"),
        ('"suite":', '"suit":', "line 1"),
        ("{", "[", "line 1: not a JSON object"),
    ],
)
def test_other_bad_lines_are_errors(file: Path, make_launch: MakeLaunch, old: str, new: str, says: str) -> None:
    append(file, make_launch())
    file.write_text(file.read_text().replace(old, new, 1))
    append(file, make_launch(index=1))
    with pytest.raises(ValueError, match=says):
        read(file)


def test_no_infinite_number_is_written(file: Path, make_launch: MakeLaunch) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        append(file, make_launch(steps=((float("nan"),),)))
    assert not file.exists()


def test_order_is_a_b_b_a() -> None:
    assert [arm for arm, _ in interleaved("AB", 4)] == list("ABBAABBA")
    assert list(interleaved("ABC", 2)) == [("A", 0), ("B", 0), ("C", 0), ("C", 1), ("B", 1), ("A", 1)]


def test_order_gives_all_arms_the_same_drift() -> None:
    places: dict[str, list[int]] = {}
    for place, (arm, _) in enumerate(interleaved("ABC", 6)):
        places.setdefault(arm, []).append(place)
    assert len({sum(each) for each in places.values()}) == 1


@pytest.mark.parametrize("arms", ["", "A", "AA"])
def test_order_needs_several_arms(arms: str) -> None:
    with pytest.raises(ValueError, match="at least two arms"):
        list(interleaved(arms, 2))
