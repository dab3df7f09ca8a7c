"""Who holds a lock: a record beside it, for messages. It may be missing, or left by a process that was killed."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from lightning_sagemaker import processes
from lightning_sagemaker.locking.identity import Who

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as its file ``*.holder`` says.

    Attributes:
        who: The process.
        start: Start of that process, to tell it from a later one with the same id.
        token: Text of this one hold.
        since: When it took the lock, for people.
        at: The same by :func:`processes.clock`.
    """

    who: Who
    start: str | None
    token: str
    since: str
    at: float

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """The record in a file; ``None`` where there is none, or it is damaged."""
        with suppress(OSError, ValueError, TypeError):
            record = json.loads(path.read_bytes())
            who = Who.of(record.pop("who"))
            return None if who is None else cls(who, **record)
        return None

    @classmethod
    def write(cls, path: Path, token: str) -> None:
        """Record this process, as well as it goes: a full disk must not keep anybody from working."""
        now = datetime.now(tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        me = cls(Who.me(), processes.start_of(os.getpid()), token, now, processes.clock())
        with suppress(OSError):
            path.unlink(missing_ok=True)
            part = path.with_name(path.name + ".part")
            part.write_text(json.dumps(asdict(me)), encoding="utf-8")
            part.replace(path)

    @property
    def is_alive(self) -> bool:
        """Whether that process still runs."""
        return self.start is not None and processes.start_of(self.who.pid) == self.start

    def __str__(self) -> str:
        return f"{self.who}, since {self.since} ({max(0.0, processes.clock() - self.at):.0f} s)"
