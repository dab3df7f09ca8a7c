"""Makes a line one write, in hosts whose processes share one pipe (no launcher: Lightning starts the others itself).

Unbuffered, Python writes a line's text and its end apart, and lines of processes that print at once run together.
Python imports this file by its name at start-up; the environment's own file of that name is then run as usual.
"""  # noqa: INP001 - the interpreter finds it by its folder, not by a package

import importlib.machinery
import importlib.util
import io
import os
import sys

for _stream in (sys.stdout, sys.stderr):
    if isinstance(_stream, io.TextIOWrapper):
        _stream.reconfigure(line_buffering=True, write_through=False)

_here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib would slow every start
_spec = importlib.machinery.PathFinder.find_spec("sitecustomize", [path for path in sys.path if path != _here])
if _spec is not None and _spec.loader is not None:
    _spec.loader.exec_module(importlib.util.module_from_spec(_spec))
