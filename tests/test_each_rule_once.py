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
            "distributed/reachability.py": "a pause after a connection that was not accepted",
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
        {"distributed/store.py": "the store", "distributed/participants.py": "it is a store"},
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


# Tables: what gives a second copy away in the whole package, and where it may stand.
TABLES = {
    "settings": (
        r"= \"LIGHTNING_SAGEMAKER_",
        {
            "settings.py": "the table (with its prefix)",
            "_autoload.py": "the off switch, before anything is imported",
            "patches/chosen_world.py": "a word in a message",
            "environment.py": "set by a rank for its children; nobody's setting",
            "job/launchers.py": "the same; and `job` imports nothing",
            "simulate/processes.py": "a mark of processes; nobody's setting",
        },
    ),
    "launchers' hyperparameters": (
        r"\bsagemaker_[a-z_]+_enabled",
        {
            "launch_modes.py": "the table",
            "simulate/container.py": "one that SDK v2 sends for the class HuggingFace only",
        },
    ),
    "instance types": (
        r"\"(?:ml\.)?p4d\.24xlarge\"",
        {
            "smddp/availability.py": "those of SMDDP",
            "simulate/spec.py": "a default",
            "simulate/toolkit.py": "those to which the toolkit gives variables",
            "submit/__init__.py": "an example",
            "submit/aws_checks.py": "any that both SDKs know",
        },
    ),
    "Lightning's versions": (r"2\.6\.3", {"submit/source.py": "as in pyproject.toml"}),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_stands_once(table: str) -> None:
    pattern, places = TABLES[table]
    files = {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
        if "fake_smddp" not in path.parts
    }
    found = {name for name, text in files.items() if re.search(pattern, text)}
    assert found == set(places), f"{table}: use what is there, or say here why not"
