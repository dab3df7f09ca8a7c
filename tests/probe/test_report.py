"""The report, from logs as launchers and log services write them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.cli import main
from lightning_sagemaker.probe.lines import MARK, Observation, line, read
from lightning_sagemaker.probe.report import as_markdown, report

if TYPE_CHECKING:
    from pathlib import Path

PREFIXES = ("", "[1,mpirank:0,algo-1]<stdout>:", "[algo-1] ", "[algo-1 rank 0] ", "2026-11-21T08:00:00Z [algo-2] ")


def log(ranks: int = 2, *, world_size: int = 2, **changes: Any) -> list[str]:
    """A log in which that many ranks tell a little, each with another prefix."""
    lines = []
    for rank in range(ranks):
        host = f"algo-{rank + 1}"
        seen = {
            "begin": {"world_size": world_size, "simulated": False},
            "resource_config": {"current_host": host, "hosts": ["algo-1", "algo-2"], "groups": {}},
            "meeting": {"outcome": "ok"},
            **changes,
            "end": {"seconds": 1.0},
        }
        lines += [
            PREFIXES[(rank + index) % len(PREFIXES)] + line(Observation(rank, host, key, value), {})
            for index, (key, value) in enumerate(seen.items())
        ]
    return lines


def verdict(found: dict[str, Any], key: str) -> tuple[str, str]:
    return next((each["verdict"], each["sentence"]) for each in found["assumptions"] if each["key"] == key)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_whatever_stands_before_or_after_an_observation_it_is_found(prefix: str) -> None:
    observation = Observation(3, "algo-2", "marks", {"text": "with ] and } and {"})
    text = prefix + line(observation, {})
    assert read([f"{text}\n", "Epoch 3: 100%", f"{text} and more"]) == ([observation, observation], 0)


def test_two_observations_in_one_line_are_both_found() -> None:
    one, other = (Observation(rank, "algo-1", "port", {"asked": False}) for rank in (0, 1))
    assert read([line(one, {}) + line(other, {})]) == ([one, other], 0)


def test_a_whole_log_is_joined_by_rank() -> None:
    found = report([*log(), "something else"])
    assert found["complete"] is True
    assert found["ranks"] == {"expected": 2, "heard": [0, 1], "not_ended": []}
    assert verdict(found, "host-order")[0] == "holds"
    assert verdict(found, "hosts-meet") == ("holds", "all ranks came")
    meeting = next(each for each in found["assumptions"] if each["key"] == "hosts-meet")
    assert meeting["observations"] == {rank: {"meeting": {"outcome": "ok"}} for rank in ("0 on algo-1", "1 on algo-2")}
    json.dumps(found)


def test_a_missing_rank_makes_unknown_what_held_but_not_what_failed() -> None:
    found = report(log(1))
    assert found["complete"] is False
    assert found["ranks"] == {"expected": 2, "heard": [0], "not_ended": ["1 (not heard)"]}
    assert verdict(found, "hosts-meet") == ("unknown", "`meeting` was not heard (rank 1 (not heard))")
    failing = report(log(1, meeting={"outcome": "error", "text": "timed out"}))
    assert verdict(failing, "hosts-meet") == ("fails", "timed out (rank 0 on algo-1)")
    assert "ranks that did not end: 1 (not heard)" in as_markdown(failing)


def test_torn_lines_are_counted_and_lose_only_themselves() -> None:
    lines = log()
    torn = [text[:-20] if '"meeting"' in text else text for text in lines]
    found = report(torn)
    assert found["torn_lines"] == 2
    assert found["complete"] is False
    assert verdict(found, "hosts-meet")[0] == "unknown"
    assert verdict(found, "host-order")[0] == "holds"
    assert read([MARK + '{"rank": 1}', MARK + "[1, 2]", MARK]) == ([], 3)


def test_two_processes_that_take_themselves_for_the_same_rank_are_both_kept() -> None:
    lines = [line(Observation(0, host, "begin", {"world_size": 1}), {}) for host in ("algo-1", "algo-2")]
    assert list(report(lines)["further"]) == ["0 on algo-1", "0 on algo-2"]


def test_a_long_observation_stays_one_short_line() -> None:
    value = {f"OMPI_MCA_{number}": "x" * 100 for number in range(500)}
    text = line(Observation(0, "algo-1", "variables/OMPI_", value), {})
    assert len(text) < 4096
    ((observation,), torn) = read([text])
    assert torn == 0
    assert observation.value["cut"].startswith('{"OMPI_MCA_0"')


def test_secrets_are_taken_out_of_keys_and_values_also_where_they_would_be_cut() -> None:
    secret = "s" * 300 + "-end"
    environ = {"API_TOKEN": secret, "PLAIN": "not-a-secret"}
    value = {
        secret: 1,
        "list": [f"{'a' * 200}{secret}"],
        "arn": "arn:aws:iam::123456789012:role/R",
        "text": "not-a-secret",
    }
    text = line(Observation(0, "algo-1", "job", value), environ)
    assert "ssss" not in text
    assert "123456789012" not in text
    assert "not-a-secret" in text


def test_from_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved, output = tmp_path / "saved.log", tmp_path / "report.json"
    saved.write_text("\n".join(log()))
    assert main(["probe", "--from-log", str(saved), "--output", str(output)]) == 0
    assert "| holds | `hosts-meet` |" in capsys.readouterr().out
    assert json.loads(output.read_text())["schema"] == 1
    saved.write_text("\n".join(log(meeting={"outcome": "error", "text": "timed out"})))
    assert main(["probe", "--from-log", str(saved), "--output", str(output)]) == 1
    saved.write_text("no such line\n")
    assert main(["probe", "--from-log", str(saved), "--output", str(output)]) == 2
    assert "no line of a probing job was found" in capsys.readouterr().err
