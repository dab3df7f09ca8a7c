"""A suite that needs no job, measured: ``python -m benchmarks.local SUITE SAMPLES.jsonl [options of the suite]``.

Run by the Python that has torch and Lightning. `benchmarks/suites` has a module for each, whose ``measure`` yields what
each launch has measured; its arguments are the options. The first of its ``ARMS`` is the baseline of each case.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from jsonargparse import auto_cli

from benchmarks.environment import gather
from benchmarks.samples import Launch, append, role_of


def main(arguments: Sequence[str]) -> None:
    """Measure all launches, and write each down at once."""
    suite, samples, *options = arguments
    module = import_module(f"benchmarks.suites.{suite.replace('-', '_')}")
    described = gather("none")
    for each in auto_cli(module.measure, args=options):
        role = role_of(each.arm, module.ARMS)
        append(Path(samples), Launch(suite=suite, role=role, environment=described, **vars(each)))
        print(f"benchmark: {each.case}, {each.arm}, launch {each.index + 1}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
