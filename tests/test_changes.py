"""The table of changes: complete, consistent with what is patched, and each of its rows a switch."""

from __future__ import annotations

import importlib
import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker import _autoload, changes, messages
from lightning_sagemaker.changes import CHANGES, disabled, is_on
from lightning_sagemaker.settings import DISABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = [change.name for change in CHANGES]
PATCHES = {patch: set(names.split()) for found in _autoload._MODULES.values() for patch, names in found.items()}
FOLDER = Path(changes.__file__).with_name("patches")


def test_every_patch_has_a_row_and_every_row_its_patches() -> None:
    assert set(NAMES) == set().union(*PATCHES.values()), "a row that nothing does, or a patch without one"
    for patch, names in PATCHES.items():
        assert names
        module, _, function = patch.partition(".")
        assert callable(getattr(importlib.import_module(f"lightning_sagemaker.patches.{module}"), function))


def test_every_function_of_the_folder_that_patches_is_given_something_to_patch() -> None:
    found = {
        f"{path.stem}.{name}"
        for path in FOLDER.glob("[!_]*.py")
        for name in re.findall(r"^def (patch_\w+|register_\w+)\(", path.read_text(), re.MULTILINE)
    }
    assert found == set(PATCHES)


def test_names_are_unique_plain_words() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in NAMES)


def test_every_row_says_what_stock_does_what_we_do_and_when() -> None:
    assert all(change.stock and change.ours and change.when for change in CHANGES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("sigterm", ["sigterm"]),
        (" sigterm, heartbeat ,", ["heartbeat", "sigterm"]),
        (",".join(NAMES), NAMES),
    ],
)
def test_the_variable_is_a_list(text: str, expected: Sequence[str]) -> None:
    assert disabled({DISABLE: text}) == frozenset(expected)
    assert disabled({}) == frozenset()


def test_an_unknown_name_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(ValueError, match=r"'sigterm,sigterms' lists sigterms") as caught:
        disabled({DISABLE: "sigterm,sigterms"})
    assert all(name in str(caught.value) for name in NAMES)


def test_an_unknown_name_switches_nothing_off_and_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(DISABLE, "sigterm,an unknown one")
    monkeypatch.setattr(messages, "_said", set())
    monkeypatch.setattr(logging.getLogger("lightning_sagemaker"), "propagate", True)
    assert all(is_on(name) for name in NAMES)
    assert len([record for record in caplog.records if "an unknown one" in record.getMessage()]) == 1


def test_a_patch_is_on_while_one_of_its_rows_is(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[ModuleType] = []
    monkeypatch.setattr("lightning_sagemaker.patches.environment.patch_connector", served.append)
    module = ModuleType("lightning.fabric.connector")
    first, *rows = PATCHES["environment.patch_connector"]
    monkeypatch.setenv(DISABLE, ",".join(rows))
    _autoload._activate(module)
    assert served == [module]
    monkeypatch.setenv(DISABLE, ",".join([first, *rows]))
    _autoload._activate(module)
    assert served == [module]


# Each row is switched off in a fork of one process, before Lightning is imported; patches are watched, not replaced.
_SCRIPT = """
import json, os, sys
import lightning_sagemaker  # the entry point: nothing of Lightning is imported yet
import torch
from lightning_sagemaker import changes, _autoload
from importlib import import_module

called = []
for patch in sorted({patch for functions in _autoload._MODULES.values() for patch in functions}):
    home, _, name = patch.partition(".")
    module = import_module(f"lightning_sagemaker.patches.{home}")
    def watched(*given, patch=patch, function=getattr(module, name)):
        called.append(patch)
        return function(*given)
    setattr(module, name, watched)
for name in [None, *sys.argv[1:]]:
    child = os.fork()
    if child == 0:
        if name:
            os.environ["LIGHTNING_SAGEMAKER_DISABLE"] = name
        import lightning.pytorch
        import torch.distributed.elastic.rendezvous.static_tcp_rendezvous
        print(json.dumps([name, sorted(set(called))]), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_row_that_is_off_has_its_patches_not_applied() -> None:
    rows = ["metric_lines", "sigterm", "environment,world_check,shards"]
    script = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SCRIPT, *rows], capture_output=True, text=True, timeout=200, check=False
    )
    assert script.returncode == 0, script.stderr
    found = dict(json.loads(line) for line in script.stdout.splitlines())
    here = set(PATCHES) - {"remote.patch_errors"}  # SDKs have environments of their own: tests/launch/test_remote.py
    assert set(found[None]) == here
    for row in rows:
        off = set(row.split(","))
        expected = {patch for patch in here if PATCHES[patch] - off}
        assert set(found[row]) == expected
        assert expected < here
