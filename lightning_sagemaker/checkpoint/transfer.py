"""Sending files from one host to another: complete or not at all, at any size, a piece at a time.

Only files that were offered are sent, to those who know a random word that is told at the store.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import secrets
import shutil
import socket
import threading
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from lightning_sagemaker.checkpoint.contents import digest
from lightning_sagemaker.distributed.shutdown import at_exit
from lightning_sagemaker.messages import log, say
from lightning_sagemaker.temporary_files import complete_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PIECE = 1 << 22  # bytes that are in memory at a time
_LINE = 4096  # bytes of a question, or of an answer before the content
_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_HASTE = 10.0  # seconds in which whoever connects has to ask
_MOST = 1024  # connections beside each other
_PAUSE = 0.1  # seconds until the next try, where nobody can be accepted
_SILENCE = 60.0  # seconds without a byte after which a connection counts as lost
_FLUSH = 600.0  # seconds that the other side may take to flush the file to its device


class Server:
    """Background server for offered files, until the process ends."""

    def __init__(self, host: str, address: str) -> None:
        self._host = host
        self._files: dict[str, Path] = {}
        self._senders: set[threading.Thread] = set()
        self._pid = os.getpid()
        self._listener = socket.create_server(
            (address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET, backlog=128
        )
        self._word = secrets.token_hex(32)
        threading.Thread(target=self._accept, name="lightning_sagemaker_offers", daemon=True).start()
        at_exit(self.close)

    def offer(self, key: str, path: Path) -> dict[str, Any]:
        """Offer a file from now on, under a key; returns what :func:`receive` needs to get it."""
        self._files[key] = path
        address, port = self._listener.getsockname()[:2]
        return {"host": self._host, "address": address, "port": port, "word": self._word, "key": key}

    def close(self) -> None:
        """Accept no more connections, and finish the transfers in progress."""
        if os.getpid() != self._pid:
            return  # a forked process: neither socket nor threads are its own
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends `accept`
        self._listener.close()
        for sender in tuple(self._senders):  # each ends by itself when its connection is silent
            sender.join(_HASTE)
            if sender.is_alive():
                log.warning("%s ends once a checkpoint that is being sent has arrived", self._host)
                sender.join()

    def _accept(self) -> None:
        while self._listener.fileno() >= 0:  # not closed
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed; or too many files are open, or whoever connected has gone
                time.sleep(_PAUSE)
                continue
            if len(self._senders) >= _MOST:  # one for each host is enough
                connection.close()
                continue
            sender = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._senders.add(sender)
            try:
                sender.start()
            except RuntimeError as error:  # the system has no thread left for now
                self._senders.discard(sender)
                connection.close()
                log.warning("%s cannot start a thread that sends a checkpoint: %s", self._host, error)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                question = _read_line(connection, until=time.monotonic() + _HASTE)
                if hmac.compare_digest(str(question["word"]).encode(), self._word.encode()):
                    connection.settimeout(_SILENCE)
                    self._answer(connection, question)
        except (OSError, ValueError, KeyError, TypeError) as error:  # TypeError: a question that is no mapping
            log.debug("a connection for a checkpoint ended: %r", error)
        finally:
            self._senders.discard(threading.current_thread())

    def _answer(self, connection: socket.socket, question: dict[str, Any]) -> None:
        path, there = self._files.get(str(question["key"])), str(question.get("host"))
        try:
            if path is None:
                raise FileNotFoundError(errno.ENOENT, "it is not offered")
            found = digest(path)
            file = path.open("rb")
        except OSError as error:
            _write_line(connection, {"failure": f"{self._host} cannot read it: {error}"[: _LINE // 8]})
            return
        with file:
            if question.get("have") == found:
                _write_line(connection, {"same": True})
                return
            start, size = time.monotonic(), os.fstat(file.fileno()).st_size
            _write_line(connection, {"size": size})
            try:
                self._send(connection, file, size)
            except OSError as error:
                log.warning("%s has not received %s from %s: %s", there, path, self._host, error)
                return
            say(
                "%s %s %s: %s has sent it %s in %.1f s",
                *(there, "had an older" if question.get("have") else "lacks", path),
                *(self._host, in_words(size), time.monotonic() - start),
            )

    @staticmethod
    def _send(connection: socket.socket, file: IO[bytes], size: int) -> None:
        # Not `sendfile`: the digest of what is sent has to be made here, so it passes through this process anyway.
        found, piece, left = hashlib.sha256(), memoryview(bytearray(_PIECE)), size
        while left:
            count = file.readinto(piece[: min(left, _PIECE)])  # type: ignore[attr-defined] # a file of `open`
            if not count:
                raise OSError(f"the file was cut while it was sent, {left} bytes before its end")
            found.update(piece[:count])
            connection.sendall(piece[:count])
            left -= count
        connection.sendall(found.digest())
        connection.settimeout(_FLUSH)
        if not connection.recv(1):
            raise ConnectionError("the other host has not taken it")


def receive(offer: dict[str, Any], path: Path, here: str, each: Callable[[], None]) -> bool:
    """Get a file from the host that offers it; whether it was sent, for this host may have the same.

    A file there is replaced once the new one is complete. Raises ``OSError`` if it could not be sent or written.
    """
    have = digest(path) if path.is_file() else ""
    with socket.create_connection((offer["address"], offer["port"]), timeout=_SILENCE) as connection:
        _write_line(connection, {"word": offer["word"], "key": offer["key"], "have": have, "host": here})
        try:
            answer = _read_line(connection)
        except ValueError as error:
            raise ConnectionError(f"no answer from {offer['host']} at {offer['address']}:{offer['port']}") from error
        if "failure" in answer:
            raise FileNotFoundError(answer["failure"])
        if "same" in answer:
            return False
        start, size = time.monotonic(), int(answer["size"])
        say(
            "%s %s %s: it gets it from %s, %s",
            *(here, "has an older" if have else "lacks", path, offer["host"], in_words(size)),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(path.parent).free) < size:
            raise OSError(errno.ENOSPC, f"it is {in_words(size)}, and {in_words(free)} are free", str(path.parent))
        with complete_file(path) as file:
            _receive(connection, file, size, each)
        connection.sendall(b"!")
        log.info("%s has received %s in %.1f s", here, path, time.monotonic() - start)
    return True


def _receive(connection: socket.socket, file: IO[bytes], size: int, each: Callable[[], None]) -> None:
    found, piece, left = hashlib.sha256(), memoryview(bytearray(_PIECE)), size
    while left:
        count = connection.recv_into(piece[: min(left, _PIECE)])
        if not count:
            raise ConnectionError(f"the connection was closed {left} bytes before the end of {size}")
        found.update(piece[:count])
        file.write(piece[:count])
        left -= count
        each()
    if _read(connection, found.digest_size) != found.digest():
        raise ConnectionError("what arrived is not what was sent: its digest is another")


def in_words(size: int) -> str:
    """A number of bytes, formatted for people."""
    return next((f"{size / unit:.1f} {name}" for unit, name in _UNITS if size >= unit), f"{size} bytes")


def _read(connection: socket.socket, count: int, until: float | None = None) -> bytes:
    found = b""
    while len(found) < count:
        if until is not None:
            connection.settimeout(max(until - time.monotonic(), 0.001))
        piece = connection.recv(count - len(found))
        if not piece:
            break
        found += piece
    return found


def _read_line(connection: socket.socket, until: float | None = None) -> dict[str, Any]:
    """Read one line of JSON and no byte after it; by a deadline, if one is given."""
    length = int.from_bytes(_read(connection, 2, until), "big")
    return json.loads(_read(connection, min(length, _LINE), until))  # type: ignore[no-any-return]


def _write_line(connection: socket.socket, content: dict[str, Any]) -> None:
    text = json.dumps(content).encode()[:_LINE]
    connection.sendall(len(text).to_bytes(2, "big") + text)
