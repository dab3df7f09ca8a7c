"""The part of a page that a script makes, between two comments; the other scripts here use it."""

from __future__ import annotations

import sys
from pathlib import Path


def put(page: Path, name: str, made: str, arguments: list[str]) -> int:
    """Write that part, or with ``--check`` only compare it.

    Args:
        page: The page.
        name: Of the part, in its comments: ``<!-- name: begin, made by scripts/... -->`` and ``<!-- name: end -->``.
        made: What shall stand there.
        arguments: Of the script.

    Returns:
        Exit code of the script: 1 where it differs and was not written.
    """
    script = Path(sys.argv[0]).name
    begin, end = f"<!-- {name}: begin, made by scripts/{script} -->\n", f"<!-- {name}: end -->"
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        sys.stderr.write(f"{page} has no {begin.strip()!r} with {end!r} behind it. HINT: put both back.\n")
        return 1
    whole = f"{before}{begin}{made}{end}{after}"
    if "--check" not in arguments:
        page.write_text(whole, encoding="utf-8")
    elif whole != text:
        sys.stderr.write(f"{page.name} differs from the table that it is made from. HINT: run scripts/{script}\n")
        return 1
    return 0
