"""Runs the command line once for each list of arguments; prints exit code, output and errors of each as JSON."""

import contextlib
import io
import json
import logging
import sys

from lightning_sagemaker.cli import main

logging.disable(logging.WARNING)
runs = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
    runs.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(runs))
