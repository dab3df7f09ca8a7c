"""Imports the fake SMDDP under each of the environments given as JSON; prints what came of it."""

from __future__ import annotations

import importlib
import json
import os
import sys

import torch.distributed as dist

answers = []
clean = dict(os.environ)
for environment in json.loads(sys.argv[1]):
    os.environ.clear()
    os.environ.update({**clean, **environment})
    for name in [name for name in sys.modules if name.partition(".")[0] == "smdistributed"]:
        del sys.modules[name]
    dist.Backend._plugins.pop("SMDDP", None)
    try:
        importlib.import_module("smdistributed.dataparallel.torch.torch_smddp")
    except Exception as error:  # noqa: BLE001 - the answer
        answers.append([type(error).__name__, str(error), "SMDDP" in dist.Backend._plugins])
    else:
        answers.append(["imported", "", "SMDDP" in dist.Backend._plugins])
version = importlib.import_module("smdistributed.dataparallel").__version__
print(json.dumps({"answers": answers, "version": version}))
