"""The folders of libraries that few processes need, and that the others shall not import: the Makefile says why."""

import sys
from pathlib import Path

ASIDE = Path(sys.prefix) / "aside"
RICH = Path(sys.prefix) / "rich"  # where it is importable, Lightning's own progress bar and summary are its
