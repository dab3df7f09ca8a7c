"""Runs the training script with the command line from the file beside this one.

`lightning-sagemaker submit` puts both into the source folder of a job whose arguments no hyperparameter can carry.
"""

import json
import os
import runpy
import sys
from pathlib import Path


def _text(value: str) -> str:
    """A hyperparameter's value: SDK v2 and the API write each as JSON."""
    try:
        decoded = json.loads(value)
    except ValueError:
        return value
    return decoded if isinstance(decoded, str) else value  # a number keeps its digits: 1e-3, not 0.001


def _main() -> None:
    here = Path(__file__).resolve()
    told = json.loads(here.with_suffix(".json").read_text(encoding="utf-8"))
    base = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
    # A tuning job may have changed the values.
    values = json.loads((base / "input/config/hyperparameters.json").read_text(encoding="utf-8"))
    script = str(here.parent / told["script"])
    sys.argv[:] = [script]
    for argument in told["arguments"]:
        text = argument if isinstance(argument, str) else argument["prefix"] + _text(values[argument["hyperparameter"]])
        sys.argv.append(text)
    sys.path[0] = str(Path(script).parent)
    # The script becomes `__main__` of this process, as if it had been started: spawned children and Lightning's own
    # launcher find it by `__file__` and `sys.argv`, and mpi4py ends the other ranks when it raises.
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    _main()
