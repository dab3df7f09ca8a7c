"""The report of a probing job, from its log: JSON for programs, a table for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.probe.assumptions import ASSUMPTIONS
from lightning_sagemaker.probe.judges import simulated
from lightning_sagemaker.probe.lines import read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lightning_sagemaker.probe.assumptions import Assumption

SCHEMA = 1


def report(log: Iterable[str]) -> dict[str, Any]:
    """Make the report.

    Args:
        log: Lines of the job's log.

    Raises:
        ValueError: No process was heard.
    """
    observations, torn = read(log)
    ranks: dict[str, dict[str, Any]] = {}
    for each in observations:
        # Processes that took themselves for the same rank are an answer too.
        ranks.setdefault(f"{each.rank} on {each.host}", {})[each.key] = each.value
    if not ranks:
        raise ValueError(
            "no line of a probing job was found in the log. HINT: it must be the whole log of a job that"
            " `lightning-sagemaker probe` has sent."
        )
    heard = {observation.rank for observation in observations}
    expected = max((seen.get("begin", {}).get("world_size", 0) for seen in ranks.values()), default=0)
    missing = [rank for rank in range(expected) if rank not in heard]
    ranks |= {f"{rank} (not heard)": {} for rank in missing}
    ranks = dict(sorted(ranks.items(), key=lambda one: (int(one[0].partition(" ")[0].replace("None", "-1")), one[0])))
    used = {key for assumption in ASSUMPTIONS for key in assumption.keys}
    return {
        "schema": SCHEMA,
        "simulated": simulated(ranks),
        "complete": not missing and not torn and all("end" in seen for seen in ranks.values()),
        "ranks": {
            "expected": expected,
            "heard": sorted(rank for rank in heard if rank is not None),
            "not_ended": [rank for rank, seen in ranks.items() if "end" not in seen],
        },
        "torn_lines": torn,
        "versions": next((seen["software"] for seen in ranks.values() if "software" in seen), {}),
        "assumptions": [_judged(assumption, ranks) for assumption in ASSUMPTIONS],
        "further": {
            rank: {key: value for key, value in seen.items() if not _among(key, used)} for rank, seen in ranks.items()
        },
    }


def _judged(assumption: Assumption, ranks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    verdict, sentence = assumption.judge(ranks)
    told = ("key", "question", "expected", "where", "source")
    return {
        **{name: getattr(assumption, name) for name in told},
        "verdict": verdict,
        "sentence": sentence,
        "observations": {
            rank: {key: value for key, value in seen.items() if _among(key, assumption.keys)}
            for rank, seen in ranks.items()
        },
    }


def _among(key: str, keys: Iterable[str]) -> bool:
    return any(key.startswith(each) if each.endswith("/") else key == each for each in keys)


def failed(found: Mapping[str, Any]) -> bool:
    """Whether an assumption fails."""
    return any(each["verdict"] == "fails" for each in found["assumptions"])


def as_markdown(found: Mapping[str, Any]) -> str:
    """A short table.

    Args:
        found: The report.
    """
    ranks = found["ranks"]
    counts = Counter(each["verdict"] for each in found["assumptions"])
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("holds", "fails", "unknown"))
    heard = f"{len(ranks['heard'])} of {ranks['expected']} ranks heard"
    lines = [f"# lightning-sagemaker probe: {told} ({heard})", ""]
    if found["simulated"]:
        lines += ["**Simulated: this says nothing about AWS, only that the probe itself works.**", ""]
    if not found["complete"]:
        late = ", ".join(ranks["not_ended"]) or "none"
        lines += [f"**Incomplete**: ranks that did not end: {late}; torn lines: {found['torn_lines']}.", ""]
    lines += ["| verdict | assumption | expected | seen |", "|---|---|---|---|"]
    for each in found["assumptions"]:
        cells = (each["verdict"], f"`{each['key']}`", each["expected"], each["sentence"])
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"
