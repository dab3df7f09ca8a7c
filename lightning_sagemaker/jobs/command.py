"""``lightning-sagemaker jobs``: the command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.jobs import aws
from lightning_sagemaker.jobs.description import STATUSES
from lightning_sagemaker.jobs.downloads import find_files, size
from lightning_sagemaker.jobs.following import EVERY, follow, stop
from lightning_sagemaker.jobs.listing import find, job, jobs
from lightning_sagemaker.jobs.log import Log
from lightning_sagemaker.options import write

if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_KINDS = ("model", "output", "checkpoints")
_EPILOG = """\
a NAME may be the beginning of a job's name, if it fits no other job.
exit code: 0, 1 where `logs --follow` ends with a job that has not completed or AWS refuses a `stop`, 2 for bad input,
130 after Ctrl-C
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand, with its own subcommands."""
    parser = subparsers.add_parser(
        "jobs",
        help="list, show, follow and stop training jobs, and download what they wrote",
        description="Follows training jobs that `submit` or anything else has sent.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    add = _add(actions, "list", _list, "list jobs, newest first")
    add("--limit", type=int, default=20, metavar="N", help="(default: %(default)s)")
    add("--all", action="store_true", help="without a limit")
    add("--status", choices=STATUSES, metavar="STATUS", help=f"one of {', '.join(STATUSES)}")
    add("--name-contains", metavar="TEXT", help="only jobs with this text in their names")
    add("--json", action="store_true", help="for programs")

    add = _add(actions, "show", _show, "show a job's state, failure reason, hosts, cost so far, S3 URIs and metrics")
    add("name", metavar="NAME")
    add("--json", action="store_true", help="for programs")

    add = _add(actions, "logs", _logs, "show the log of a job's hosts")
    add("name", metavar="NAME")
    add("--follow", action="store_true", help="follow the log until the job ends; Ctrl-C leaves the job running")
    add("--host", metavar="HOST", help="only this one, for example algo-1")
    add("--tail", type=int, metavar="N", help="only the last lines")
    add("--since", type=_moment, metavar="TIME", help="30m, 2h, 1d ago, or a time such as 2026-12-01T09:30 (UTC)")
    interval: dict[str, Any] = {"type": _seconds, "default": EVERY, "metavar": "SECONDS"}
    add("--interval", **interval, help="between two requests (default: %(default)s)")

    add = _add(actions, "stop", _stop, "stop jobs")
    add("names", metavar="NAME", nargs="+")
    add("--wait", action="store_true", help="until they have ended")
    add("--interval", **interval, help="between two requests (default: %(default)s)")

    add = _add(actions, "download", _download, "download a job's model, output or checkpoints")
    add("name", metavar="NAME")
    add("--to", type=Path, metavar="FOLDER", help="(default: one with the job's name)")
    for kind in _KINDS:
        add(f"--{kind}", action="store_true", help=f"its {kind} (default: model and output)")
    add("--force", action="store_true", help="replace existing files")


def run(given: argparse.Namespace) -> int:
    """Do what the arguments say; the exit code."""
    return given.action(given, aws.session(given.region, given.profile)) or 0


def _add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    action: Callable[[argparse.Namespace, Any], int | None],
    text: str,
) -> Callable[..., object]:
    parser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--region", help="AWS region (default: that of your AWS configuration)")
    parser.add_argument("--profile", help="profile of your AWS configuration")
    parser.set_defaults(run=run, action=action)
    return parser.add_argument


def _list(given: argparse.Namespace, session: Any) -> None:
    limit = None if given.all else given.limit
    found = jobs(limit=limit, status=given.status, name_contains=given.name_contains, session=session)
    _print(_as_json([dataclasses.asdict(one) for one in found]) if given.json else found)


def _show(given: argparse.Namespace, session: Any) -> None:
    found = job(given.name, session=session)
    _print(_as_json(dataclasses.asdict(found) | {"cost": found.cost}) if given.json else found)


def _logs(given: argparse.Namespace, session: Any) -> int | None:
    chosen = {"host": given.host, "since": given.since}
    if given.follow:
        return follow(given.name, session, tail=given.tail, every=given.interval, **chosen)
    found = find(given.name, session)
    log, number = Log(found, session, **chosen), 0
    for number, line in enumerate(log.new(given.tail), 1):  # noqa: B007 - how many there were is told below
        _print(log.text(line))
    if not number:
        sys.stderr.write(f"No line yet: {found.name} is {found.status} ({found.secondary_status}).\n")
    return None


def _stop(given: argparse.Namespace, session: Any) -> int:
    stops = stop(*given.names, wait=given.wait, every=given.interval, session=session)
    _print(*stops)
    return int(any(one.problem for one in stops))


def _download(given: argparse.Namespace, session: Any) -> None:
    kinds = {kind for kind in _KINDS if getattr(given, kind)}
    found = find_files(given.name, given.to, kinds, force=given.force, session=session)
    missing = [one.size for one in found if not one.is_here]
    _print(f"to fetch: {len(missing)} of {len(found)} file(s), {size(sum(missing))}")
    for one in found:
        _print(one.fetch(force=given.force))
        sys.stdout.flush()


def _moment(text: str) -> datetime:
    """Read a moment: an age such as ``2h``, or a time, in UTC unless it names an offset."""
    ago = re.fullmatch(r"(\d{1,9})([smhd])", text)
    try:
        if ago:
            return datetime.now(timezone.utc) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r}; expected such as 30m, 2h, 1d or 2026-12-01T09:30") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _seconds(text: str) -> float:
    try:
        if 0 <= (number := float(text)) < math.inf:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}; expected seconds, such as 10 or 0.5")


def _as_json(value: object) -> str:
    # Metrics may be NaN or infinite, for which JSON has no number.
    text = json.dumps(value, default=datetime.isoformat)
    return json.dumps(json.loads(text, parse_constant=lambda _: None), indent=2)


def _print(*things: object) -> None:
    write("".join(f"{thing}\n" for thing in things), sys.stdout)
