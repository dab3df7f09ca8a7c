"""What several parts need stands in one place: nobody writes it a second time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lightning_sagemaker

PACKAGE = Path(lightning_sagemaker.__file__).parent
# Rooms that run inside a training. `locking` waits for files, not for ranks, and has filelock for it.
ROOMS = ("checkpoint", "distributed", "learning_rate", "metrics", "patches", "smddp")
# What gives a second copy away, and where it may stand.
RULES = {
    "waiting for others": (
        r"\btime\.sleep\(",
        {
            "distributed/waiting.py": "the wait",
            "distributed/failure_file.py": "a dying process lets others come first, for a moment",
            "distributed/peer_notifier.py": "a pause after a connection that was not accepted",
            "distributed/shutdown.py": "threads of this process",
            "checkpoint/transfer.py": "a pause after a connection that was not accepted",
            "patches/signals.py": "children of this process",
        },
    ),
    "counting arrivals": (
        r"\.add\([^)]*, [1-9]\)(?! > 1)",
        {
            "distributed/store.py": "the arrival",
            "distributed/wait_for_ranks.py": "processes of each host, for the line",
            "checkpoint/comparison.py": "pieces that were sent, for the limit",
        },
    ),
    "a key that only the first sets": (
        r"\bcompare_set\(",
        {"distributed/store.py": "the store", "distributed/host_store.py": "it is a store"},
    ),
    "a thread with a limit": (r"\.join\(_?[A-Za-z]*(?:LIMIT|PATIENCE|seconds)\)", {"distributed/background.py": "it"}),
    "a file that appears when it is complete": (r"\bos\.(?:replace|link|rename)\(|\.rename\(", {}),
    "interfaces that a library finds": (r"_SOCKET_IFNAME\"", {"distributed/interface.py": "the rule"}),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_stands_where_it_is_said_to_and_nowhere_else(rule: str) -> None:
    pattern, places = RULES[rule]
    files = [path for room in ROOMS for path in (*(PACKAGE / room).glob("*.py"), *PACKAGE.glob(f"{room}.py"))]
    found = {
        path.relative_to(PACKAGE).as_posix() for path in files if re.search(pattern, path.read_text(encoding="utf-8"))
    }
    assert found == set(places), f"{rule}: use what is there, or say here why not"
