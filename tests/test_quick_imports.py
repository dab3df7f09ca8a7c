"""What `quick_imports` does to an interpreter: nothing but that it imports what it imports for less."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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


COMPILER = """
import inspect, json, os, sys
import quick_imports
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.utilities.compile import OptimizedModule

def is_loaded():
    return any(name in sys.modules for name in ("torch._dynamo.eval_frame", "sympy", "torch._prims"))

class Model(BoringModel):
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

model = Model()
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
Trainer(accelerator="cpu", devices=1, strategy="ddp", max_steps=2, **quiet).fit(model)
torch.distributed.destroy_process_group()
inspect.stack()  # as Lightning does where it loads a checkpoint
eager = torch.compiler.disable(lambda: torch.compiler.is_compiling())
found = {"loaded by eager code": is_loaded(), "eager": [isinstance(model, OptimizedModule), eager()]}
LOAD
import torch._dynamo.utils
from torch._dynamo import eval_frame
found["loaded then"] = is_loaded()
found["once"] = [torch._dynamo.eval_frame is eval_frame]
for name in ("utils", "trace_rules", "config"):  # also in a module that imports them
    module = sys.modules["torch._dynamo." + name]
    found["once"].append(getattr(torch._dynamo, name) is module is getattr(eval_frame, name))
found["once"].append(sys.modules["torch._meta_registrations"] is torch._meta_registrations)
found["optimize_ddp"] = torch._dynamo.utils.get_optimize_ddp_mode()
compiled = torch.compile(model, backend="eager")
found["compiled"] = [isinstance(compiled, it) for it in (OptimizedModule, eval_frame.OptimizedModule)]
found["output"] = torch.equal(compiled(torch.ones(1, 32)), model(torch.ones(1, 32)))
found["not compiled"] = [isinstance(model, OptimizedModule), eager()]
torch.optim.SGD(model.parameters(), 0.1).step()
print(json.dumps(found))
"""


@pytest.mark.training
@pytest.mark.parametrize(
    "load",
    [
        "",
        "import torch._dynamo.trace_rules",
        "torch._dynamo.config.optimize_ddp",
        "import torch.distributed.fsdp",
        "import torch.distributed.checkpoint",  # imports torch.distributed.tensor
        "import torch._decomp",
        "torch._meta_registrations.meta_index_Tensor",
        "from torch._subclasses.fake_tensor import FakeTensorMode; FakeTensorMode()",
    ],
)
def test_the_compiler_and_shapes_are_loaded_once_and_not_by_eager_code(load: str) -> None:
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "PYTHONPATH": str(HERE), "HOME": "/nowhere"}
    command = [sys.executable, "-c", COMPILER.replace("LOAD", load)]
    done = subprocess.run(command, env=world, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "loaded by eager code": False,
        "eager": [False, False],
        "loaded then": True,
        "once": [True] * 5,
        "optimize_ddp": "ddp_optimizer",
        "compiled": [True, True],
        "output": True,
        "not compiled": [False, False],
    }


MODELS = """
import json, os, sys
import botocore.session
sessions = [botocore.session.get_session() for _ in range(2)]
first, second = (each.get_service_data("sts") for each in sessions)
path = os.path.join(sys.argv[1], "mine.json")
read = sessions[0].get_component("data_loader").file_loader.load_file
absent = read(path[:-5])
with open(path, "w") as file:
    json.dump({"here": 1}, file)
print(json.dumps([first is second, first["metadata"]["serviceId"], absent, read(path[:-5])]))
"""


@pytest.mark.parametrize("quick", [True, False])
def test_a_model_of_botocore_is_read_once_and_one_that_comes_later_is_seen(tmp_path: Path, quick: bool) -> None:
    path = os.pathsep.join([str(HERE), *sys.path])
    code = "\n".join([*(["import quick_imports"] if quick else []), MODELS])
    command = [sys.executable, "-S", "-c", code, str(tmp_path)]
    done = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [quick, "STS", None, {"here": 1}]


ENTRY_POINTS = """
import json, os, sys
from importlib.metadata import entry_points
group = "lightning.pytorch.callbacks_factory"
before = [entry_points(group=group) for _ in range(2)]
for name in "ab":
    os.makedirs(os.path.join(sys.argv[1], name + "-1.dist-info"))
    with open(os.path.join(sys.argv[1], name + "-1.dist-info", "entry_points.txt"), "w") as file:
        file.write(f"[{group}]\\n{name} = module:{name}\\n")
    sys.path[:0] = {sys.argv[1]} - {*sys.path}
    before += [entry_points(group=group) for _ in range(2)]
again = [one is other for found in zip(before[::2], before[1::2]) for one, other in zip(*found)]
print(json.dumps([[sorted(found.names) for found in before[::2]], again, bool(entry_points())]))
"""


@pytest.mark.parametrize("quick", [True, False])
def test_entry_points_are_read_once_and_those_that_come_later_are_seen(tmp_path: Path, quick: bool) -> None:
    code = "\n".join([*(["import quick_imports"] if quick else []), ENTRY_POINTS])
    command = [sys.executable, "-S", "-c", code, str(tmp_path)]
    done = subprocess.run(command, env={"PYTHONPATH": str(HERE)}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[[], ["a"], ["a", "b"]], [quick] * 3, True]


SCHEMAS = """
import json
from jsonschema import SchemaError, ValidationError, validate

class Asked(dict):
    asked = 0
    def __contains__(self, key):
        self.asked += 1
        return super().__contains__(key)

def raised(value, schema):
    try:
        validate(value, schema)
    except (SchemaError, ValidationError) as error:
        return type(error).__name__

schema, other, broken = Asked(type="string"), Asked(type="string"), {"type": "nothing"}
counts = []
for each in (schema, schema, other):
    each.asked = 0
    assert raised("text", each) is None
    counts.append(each.asked)
errors = [raised(1, schema), raised(1, broken), raised(1, broken)]
print(json.dumps([counts[1] < counts[0], counts[2] == counts[0], errors]))
"""


@pytest.mark.parametrize("quick", [True, False])
def test_a_schema_is_checked_once_and_values_and_other_schemas_each_time(quick: bool) -> None:
    path = os.pathsep.join([str(HERE), *sys.path])
    code = "\n".join([*(["import quick_imports"] if quick else []), SCHEMAS])
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [quick, True, ["ValidationError", "SchemaError", "SchemaError"]]
