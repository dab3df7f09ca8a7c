"""The launch-mode table in docs/launch-modes.md, made from what tests/launch saw.

`--write` puts it there, after `make test-all`, which trains in all modes; `--check` compares those that were seen.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "build" / "launch-modes.json"
PAGE = ROOT / "docs" / "launch-modes.md"
BEGIN, END = "<!-- launch modes: begin, made by scripts/launch_table.py -->", "<!-- launch modes: end -->"


def table(results: dict[str, dict[str, object]]) -> str:
    """Markdown, one row a launch mode."""
    lines = [
        "| SageMaker launched it as | hosts x processes | world size | `num_nodes` | `devices` | Trainer, Fabric |",
        "|---|---|---|---|---|---|",
    ]
    for mode in results.values():
        routes = mode["routes"]
        assert isinstance(routes, dict)  # noqa: S101 - for the type checker
        seen = {tuple(route.values()) for route in routes.values()}
        if len(seen) != 1:
            sys.exit(f"{mode['title']}: Trainer and Fabric disagree: {routes}")
        strategy, environment, world_size, num_nodes, devices = seen.pop()
        environment = "no environment needed" if environment == "NoneType" else f"`{environment}`"
        lines.append(
            f"| {mode['title']} | {mode['hosts']} x {mode['processes']} | {world_size} | {num_nodes} | {devices} |"
            f" `{strategy}`, {environment} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true")
    action.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if not RESULTS.exists():
        sys.exit(f"{RESULTS} is missing. HINT: run `make test` first: tests/launch writes it.")
    made = table(json.loads(RESULTS.read_text()))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    rows, _, after = rest.partition(END)
    if arguments.write:
        PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}")
    elif not set(made.splitlines()) <= set(rows.splitlines()):
        sys.exit(f"The launch-mode table in {PAGE} is not what the tests saw. HINT: scripts/launch_table.py --write")


if __name__ == "__main__":
    main()
