"""What `quick_imports` does to an interpreter: nothing but that imports are not searched for garbage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGE = """
import gc
during = gc.isenabled()
import lightning  # where torch is imported by it, or the other way round
inner = gc.isenabled()
"""
REPORT = """
import gc, json, sys
before = gc.get_freeze_count()
try:
    import torch
except ImportError:
    torch = None
seen = vars(torch) if torch else {}
frozen = gc.get_freeze_count() > before
print(json.dumps([seen.get("during"), seen.get("inner"), gc.isenabled(), frozen, "lightning" in sys.modules]))
"""


def report(folder: Path, package: str, *before: str) -> Any:
    for name, code in (("torch", package), ("lightning", "")):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(code)
    path = os.pathsep.join(map(str, (folder, HERE)))
    command = [sys.executable, "-S", "-c", "\n".join((*before, REPORT))]
    done = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_an_import_is_not_searched_for_garbage_and_what_follows_is(tmp_path: Path) -> None:
    assert report(tmp_path, PACKAGE, "import quick_imports") == [False, False, True, True, True]


def test_without_it_an_import_is_as_everywhere(tmp_path: Path) -> None:
    assert report(tmp_path, PACKAGE) == [True, True, True, False, True]


def test_after_an_import_that_fails_garbage_is_collected(tmp_path: Path) -> None:
    assert report(tmp_path, "import lightning, nothing_of_this_name", "import quick_imports")[2:] == [True, True, True]


def test_a_script_that_has_switched_collections_off_keeps_them_off(tmp_path: Path) -> None:
    switched = ("import quick_imports", "import gc", "gc.disable()")
    assert report(tmp_path, PACKAGE, *switched) == [False, False, False, False, True]
