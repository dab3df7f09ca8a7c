"""From what all ranks saw to a verdict: pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

Verdict = Literal["holds", "fails", "unknown"]
Answer = tuple[Verdict, str]
Seen = Mapping[str, Any]  # what one rank saw, by key
Ranks = Mapping[str, Seen]  # by rank
Judge = Callable[[Ranks], Answer]

_WORST_FIRST: tuple[Verdict, ...] = ("fails", "unknown", "holds")
_SHOWN = 4  # ranks that are named


def together(answers: Mapping[str, Answer]) -> Answer:
    """One verdict of the verdicts of all ranks: the worst, with the sentences that led to it.

    Args:
        answers: By rank.
    """
    for verdict in _WORST_FIRST:
        chosen = {rank: text for rank, (each, text) in answers.items() if each == verdict}
        if not chosen:
            continue
        parts = []
        for text in dict.fromkeys(chosen.values()):
            ranks = [rank for rank, each in chosen.items() if each == text]
            parts.append(text if len(ranks) == len(answers) else f"{text} (rank {_some(ranks)})")
        return verdict, "; ".join(parts[:_SHOWN])
    return "unknown", "no rank was heard"


def _some(ranks: list[str]) -> str:
    more = len(ranks) - _SHOWN
    return ", ".join(ranks[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def each(key: str, judge: Callable[[Any], Answer]) -> Judge:
    """A judge that asks one observation of every rank.

    Args:
        key: Of the observation.
        judge: Takes its value.
    """
    return lambda ranks: together({rank: _asked(seen, key, judge) for rank, seen in ranks.items()})


def _asked(seen: Seen, key: str, judge: Callable[[Any], Answer]) -> Answer:
    value = seen.get(key)
    if value is None:
        return "unknown", f"`{key}` was not heard"
    if isinstance(value, dict):
        for amiss in ("error", "hang", "cut"):
            if set(value) == {amiss}:
                return "unknown", f"`{key}` could not be seen: {value[amiss]}"
    try:
        return judge(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return "unknown", f"`{key}` has an unexpected form: {type(error).__name__}: {error}"


def worked(trial: str, *operations: str) -> Judge:
    """A judge for operations that shall work on every rank."""
    return _tried(trial, operations, "holds", "fails")


def refused(trial: str, *operations: str) -> Judge:
    """A judge for operations that shall be refused with an error: working, hanging and crashing are not that."""
    return _tried(trial, operations, "fails", "holds")


def _tried(trial: str, operations: tuple[str, ...], if_ok: Verdict, if_error: Verdict) -> Judge:
    def one(seen: Seen, operation: str) -> Answer:
        if (found := seen.get(f"{trial}/{operation}")) is None:
            why = seen.get(f"{trial}/end") or seen.get("meeting") or {}
            return "unknown", f"not tried: {why['text']}" if "text" in why else "not heard"
        outcome, text = found["outcome"], found.get("text", "")
        if outcome == "not tried":
            return "unknown", f"not tried: {text}"
        if outcome == "ok":
            return if_ok, "works"
        if outcome == "error":
            return if_error, text
        return "fails", f"{'hangs' if outcome == 'hang' else 'ends the process'}: {text}"

    def judge(ranks: Ranks) -> Answer:
        answers = {name: together({rank: one(seen, name) for rank, seen in ranks.items()}) for name in operations}
        found = [verdict for verdict, _ in answers.values()]
        worst: Verdict = next(each for each in _WORST_FIRST if each in found)
        chosen = {name: text for name, (verdict, text) in answers.items() if verdict == worst}
        texts: dict[str, list[str]] = {}
        for name, text in chosen.items():
            texts.setdefault(text, []).append(name)
        return worst, "; ".join(f"{', '.join(names)}: {text}" for text, names in texts.items())

    return judge
