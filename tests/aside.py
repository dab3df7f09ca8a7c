"""The folder of libraries that few processes need, and that the others shall not import: the Makefile says why."""

import sys
from pathlib import Path

ASIDE = Path(sys.prefix) / "aside"
