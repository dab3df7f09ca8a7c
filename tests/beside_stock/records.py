"""Launches of the job, and what is left of them: a record of each situation, made for comparison."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from lightning_sagemaker.checkpoint.reading import MARK
from lightning_sagemaker.metrics import BEGIN
from tests.beside_stock.registry import ABORTED, ARMS, STOCK, Situation

SCRIPT = Path(__file__).with_name("job.py")
LIMIT = 90  # seconds after which a situation hangs; on an idle machine the longest takes a tenth of them
_JOBS = {
    "one": ("--hosts", "1"),
    "two": ("--hosts", "1", "--processes-per-host", "2", "--distribution", "torch_distributed"),
    "hosts": ("--hosts", "2"),
    "disks": ("--hosts", "2"),
}
_TEXTS = {".csv", ".json", ".txt", ".yaml"}
_NOISE = ("[Gloo]",)  # printed by torch's own threads, in any order

Record = dict[str, Any]


class Launch:
    """One run of all situations of a job, in one arm.

    Args:
        job: Name of the job.
        arm: Name of the arm.
        situations: What is run.
        out: Empty folder for what they leave.
    """

    def __init__(self, job: str, arm: str, situations: list[Situation], out: Path) -> None:
        begin = time.monotonic()
        for rank in range(2):  # by which the job's processes wait for each other
            os.mkfifo(out / f"from {rank}")
        variables = ARMS[arm] | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        command = [
            *(str(Path(sys.executable).with_name("lightning-sagemaker")), "simulate", *_JOBS[job]),
            *(part for name, value in variables.items() for part in ("--env", f"{name}={value}")),
            *("--source-dir", str(SCRIPT.parents[2]), str(SCRIPT), "--", "--out", str(out)),
            *("--job", job, "--limit", str(LIMIT)),
            *("--names", ",".join(situation.name for situation in situations)),
        ]
        foreign = ("LIGHTNING_SAGEMAKER", "PL_", "PYTEST")
        plain = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        limit = LIMIT * (len(situations) + 1)
        ended = subprocess.run(command, env=plain, capture_output=True, text=True, timeout=limit, check=False)
        self.arm, self.out, self.output = arm, out, f"exit code {ended.returncode}\n{ended.stdout}{ended.stderr}"
        self.seconds = time.monotonic() - begin

    def record(self, situation: Situation) -> Record:
        """Everything that is compared, by a name that says what it is."""
        record: Record = {}
        for start in range(1, situation.starts + 1):
            folder = self.out / situation.name / str(start)
            prefix = f"start {start}: " if situation.starts > 1 else ""
            exits = sorted(folder.glob("*.exit"))
            if not exits:
                record["nothing is left of it"] = self.output[-3000:]
                break
            paths = [json.loads(path.read_text()) for path in sorted(folder.glob("paths *"))]
            for path in exits:
                for key, value in self._of_rank(path).items():
                    record[f"{prefix}rank {path.stem}: {key}"] = _normalised(value, paths)
            for place in ("work", "job"):
                files = sorted(path for path in (folder / place).rglob("*") if not path.is_dir())
                names = {str(path.relative_to(folder / place)): path for path in files}
                record[f"{prefix}files in {place}"] = sorted(names)
                for name, path in names.items():
                    record[f"{prefix}content of {place}/{name}"] = _normalised(self._content(path), paths)
        return record

    def _content(self, path: Path) -> Any:
        if path.is_symlink():
            return f"link to {path.readlink().name}"
        if path.suffix == ".ckpt":
            content = torch.load(path, weights_only=False)
            if self.arm == "resume":  # whose it is; tests/checkpoint/test_resume.py knows more of it
                content.pop(MARK)
            return _described(content)
        return path.read_text().splitlines() if path.suffix in _TEXTS else "..."

    def stderr(self, situation: Situation) -> str:
        """The end of what it wrote there, which is not compared."""
        files = sorted((self.out / situation.name).glob("*/*.stderr"))
        return "\n".join(
            f"--- {file.parent.name}/{file.name}\n{file.read_text(errors='replace')[-2500:]}" for file in files
        )

    def _of_rank(self, path: Path) -> Record:
        result = path.with_suffix(".result")
        lines = path.with_suffix(".stdout").read_text(errors="replace").splitlines()
        unwanted = (*_NOISE, BEGIN) if self.arm == "metrics" else _NOISE
        found = json.loads(result.read_text()) if result.exists() else "none"
        return {
            "exit code": self._exit_code(path),
            "stdout": [line for line in lines if not line.startswith(unwanted)],
            **(found if isinstance(found, dict) else {"result": found}),
        }

    def _exit_code(self, path: Path) -> int:
        """A process's; its script's where gloo's threads aborted it after the script's end, which `quiet_end` mends."""
        code = int(path.read_text())
        if code != -signal.SIGABRT or self.arm not in (STOCK, "off"):  # those without `quiet_end`
            return code
        error, aborted, _ = path.with_suffix(".stderr").read_text(errors="replace").partition(ABORTED)
        if not aborted:
            return code
        if path.with_suffix(".result").exists():
            return 0
        return 1 if "Traceback (most recent call last):" in error else code


def _described(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        array = value.detach().float().contiguous().numpy()
        return f"tensor {tuple(value.shape)} {hashlib.sha256(array.tobytes()).hexdigest()[:12]}"
    if isinstance(value, dict):
        return {str(key): _described(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_described(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__


def _normalised(value: Any, paths: list[dict[str, str]]) -> Any:
    text = json.dumps(value, sort_keys=True)
    for names in paths:
        for name, path in names.items():
            text = text.replace(path, name)
    return json.loads(text)
