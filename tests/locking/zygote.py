"""Real processes, quickly: import once, fork one contender per index, collect what each of them saw.

Run as a program: ``zygote.py COUNT LIMIT FOLDER SCENE``, where SCENE is a Python file with a function ``act(index)``.
Each contender's record is a file in FOLDER; one that has not ended after LIMIT seconds is killed.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def main(count: int, limit: float, folder: Path, scene: Path) -> None:
    """Fork, wait, and end those that hang."""
    names: dict[str, Any] = {"__name__": "scene", "folder": folder}
    exec(compile(scene.read_text(encoding="utf-8"), scene, "exec"), names)  # noqa: S102 - the test's own text
    gate = folder / "gate"
    children = {}
    for index in range(count):
        pid = os.fork()
        if pid == 0:
            contend(names, index, folder, gate)
        children[pid] = index
    gate.touch()
    deadline = time.monotonic() + limit
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            index = children.pop(pid)
            path = folder / f"{index}.json"
            if not path.exists():
                path.write_text(json.dumps({"index": index, "pid": pid, "killed": os.waitstatus_to_exitcode(status)}))
        elif time.monotonic() > deadline:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            raise SystemExit(f"still running after {limit} s: contenders {sorted(children.values())}")
        else:
            time.sleep(0.002)


def contend(names: dict[str, Any], index: int, folder: Path, gate: Path) -> None:
    """Be one contender."""
    while not gate.exists():
        time.sleep(0.001)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("lightning_sagemaker").addHandler(handler)
    record: dict[str, Any] = {"index": index, "pid": os.getpid(), "start": time.monotonic()}
    try:
        record["value"] = names["act"](index)
    except BaseException as error:  # noqa: BLE001 - that is what the test looks at
        record |= {"error": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
    record |= {"end": time.monotonic(), "log": lines}
    part = folder / f"{os.getpid()}.part"  # by pid: a child of this one may come here too
    part.write_text(json.dumps(record))
    part.replace(folder / (f"{index}.json" if os.getpid() == record["pid"] else f"{index}-child.json"))
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
