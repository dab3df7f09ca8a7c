"""The format of messages between hosts, at the store or at a port: prefixed, bounded in length, printable.

Store and ports are open to the network, as in stock torch, so what is found there may be anything: a scanner's bytes,
no UTF-8, a number of a thousand digits. All of it is parsed here, and what is not ours counts as not there.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any

LONGEST = 65536  # bytes of a message
_LONGEST_TEXT = 4096  # characters of one text in it: each is up to 12 bytes
_MARK = b"lightning_sagemaker/1 "
_LARGEST = 2**53  # of a number


def encode(*values: object) -> str:
    """Write texts, numbers and truth values as a message; texts are cut where they are too long."""
    return _MARK.decode() + json.dumps([_printable(value) if isinstance(value, str) else value for value in values])


def decode(message: bytes, *kinds: type) -> tuple[Any, ...] | None:
    """Read a message of :func:`encode`; ``None`` for anything else.

    ``kinds`` is the type of each value: ``str``, ``int`` (from 0) or ``bool``.
    """
    if len(message) > LONGEST or not message.startswith(_MARK):
        return None
    try:
        values = json.loads(message[len(_MARK) :])
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list) or [type(value) for value in values] != list(kinds):
        return None
    sound = all(0 <= value <= _LARGEST if isinstance(value, int) else value == _printable(value) for value in values)
    return tuple(values) if sound else None


def _printable(text: str) -> str:
    shown = (char if char in "\n\t" or unicodedata.category(char) != "Cc" else repr(char)[1:-1] for char in text)
    return "".join(shown)[:_LONGEST_TEXT]
