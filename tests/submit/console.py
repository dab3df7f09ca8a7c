"""Runs pieces of Python that it is sent, one after the other in one process, since the import of boto3 is slow."""

import contextlib
import io
import json
import os
import sys
import traceback

lines, sys.stdin = sys.stdin, io.StringIO()  # nobody answers what a program asks
for line in lines:
    asked = json.loads(line)
    os.environ.clear()
    os.environ.update(asked["environ"])
    os.chdir(asked["folder"])
    out, err, code = io.StringIO(), io.StringIO(), 0
    names = {"__name__": "__main__"}
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            exec(asked["program"], names)  # noqa: S102 - what a test has written
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:  # noqa: BLE001 - the test sees it
            code = 99
            traceback.print_exc()
    answer = {"code": code, "out": out.getvalue(), "err": err.getvalue(), "modules": [*sys.modules]}
    print(json.dumps(answer), flush=True)
