"""Runs the training script with the command line from the file beside this one.

`lightning-sagemaker submit` puts both into the source folder of a job whose arguments no hyperparameter can carry.
"""

import json
import os
import runpy
import sys
from pathlib import Path


def _values() -> "dict[str, str]":
    """Hyperparameters as texts: a tuning job may have changed them. SDK v2 and the API write each as JSON."""
    base = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
    texts = json.loads((base / "input/config/hyperparameters.json").read_text(encoding="utf-8"))
    return {name: _text(text) for name, text in texts.items()}


def _text(value: str) -> str:
    try:
        decoded = json.loads(value)
    except ValueError:
        return value
    return decoded if isinstance(decoded, str) else value  # a number keeps its digits: 1e-3, not 0.001


def _main() -> None:
    here = Path(__file__).resolve()
    told = json.loads(here.with_suffix(".json").read_text(encoding="utf-8"))
    values = _values()
    script = str(here.parent / told["script"])
    sys.argv[:] = [
        script,
        *(
            argument if isinstance(argument, str) else argument["prefix"] + values[argument["hyperparameter"]]
            for argument in told["arguments"]
        ),
    ]
    sys.path[0] = str(Path(script).parent)
    # The script becomes `__main__` of this process, as if it had been started: spawned children and Lightning's own
    # launcher find it by `__file__` and `sys.argv`, and mpi4py ends the other ranks when it raises.
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    _main()
