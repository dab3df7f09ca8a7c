"""The log of a training job, of all its hosts, from CloudWatch."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.jobs import aws
from lightning_sagemaker.jobs.description import LOG_GROUP
from lightning_sagemaker.jobs.listing import find
from lightning_sagemaker.options import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lightning_sagemaker.jobs.description import Job

_PAGE = 10_000  # lines in one answer, at most
_TIME = attrgetter("time")


@dataclass(frozen=True)
class Line:
    """A line of a job's log.

    Attributes:
        time: When it was written.
        host: Name of the host in the job, for example ``algo-1``.
        text: The line.
    """

    time: datetime
    host: str
    text: str

    def __str__(self) -> str:
        return f"[{self.host}] {printable(self.text)}"


class Lines(list[Line]):
    """Lines of a log; they print as a log, in a notebook too."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    __repr__ = __str__


def logs(
    name: str, *, host: str | None = None, tail: int | None = None, since: datetime | None = None, session: Any = None
) -> Lines:
    """Log lines of a training job so far, of all hosts, by time.

    Args:
        name: Name of the job, or the beginning of it that no other has.
        host: Only what this host has written, for example ``algo-1``.
        tail: Only so many lines, the last ones.
        since: Only what was written then or later.
        session: Session of boto3; by default a new one.

    Raises:
        ImportError: boto3 is not installed.
        ValueError: There is no such job, or no such host in it.
    """
    session = session or aws.session()
    log = Log(find(name, session), session, host=host, since=since)
    return Lines(log.new(tail))


class Log:
    """The log of a job while it is written: streams, one for each start of each host, appear over time."""

    def __init__(self, job: Job, session: Any, *, host: str | None = None, since: datetime | None = None) -> None:
        if host is not None and host not in {f"algo-{number}" for number in range(1, job.hosts + 1)}:
            raise ValueError(f"Host {host!r} is none of {job.name}; expected algo-1 to algo-{job.hosts}.")
        self._job, self._host = job, host
        self._client = aws.client(session, "logs")
        self._begin = None if since is None else max(int(since.timestamp() * 1000), 0)
        self._streams: dict[str, _Stream] = {}

    def new(self, tail: int | None = None) -> Iterable[Line]:
        """Lines written since the last call, by time, or only the last of all; the caller must read all of them."""
        if tail is not None and tail < 1:
            raise ValueError(f"`tail` is {tail}; expected a number of lines, 1 or more.")
        self._look_for_streams()
        streams = self._streams.values()
        if tail is None:
            return heapq.merge(*(stream.new() for stream in streams), key=_TIME)
        return sorted((line for stream in streams for line in stream.last(tail)), key=_TIME)[-tail:]

    def text(self, line: Line) -> str:
        """A line as it is printed: with its host where there are several."""
        return str(line) if self._job.hosts > 1 and self._host is None else printable(line.text)

    def _look_for_streams(self) -> None:
        pages = self._client.get_paginator("describe_log_streams").paginate(
            logGroupName=LOG_GROUP, logStreamNamePrefix=f"{self._job.name}/"
        )
        try:
            found = list(pages.search("logStreams[].logStreamName"))
        except self._client.exceptions.ResourceNotFoundException:  # the account's first job has written nothing yet
            return
        for name in found:
            host = name.partition("/")[2].rpartition("-")[0]  # digits/algo-1-1700000000
            if name not in self._streams and self._host in (None, host):
                self._streams[name] = _Stream(self._client, name, host, self._begin)


@dataclass
class _Stream:
    """One log stream, read on from the end of the last answer."""

    client: Any
    name: str
    host: str
    begin: int | None  # milliseconds
    behind: int = 0  # what is known was written before
    token: str | None = None
    unread: deque[Line] = field(default_factory=deque)

    def new(self) -> Iterator[Line]:
        """Lines after those that were read. An answer may be empty before the end: only its token tells.

        A line counts as read when the next one is asked for: a question to another stream that fails loses none.
        """
        at_end = False
        while True:
            while self.unread:
                yield self.unread[0]
                self.unread.popleft()
            if at_end:
                return
            try:
                found = self._ask(startFromHead=True, nextToken=self.token)
            except self.client.exceptions.InvalidParameterException:
                if self.token is None:
                    raise
                # It expires after 24 hours, in which a host may be silent.
                self.token, self.begin = None, self.behind or self.begin
                continue
            before, self.token = self.token, found["nextForwardToken"]
            self.unread += self._lines(found)
            at_end = self.token == before

    def last(self, count: int) -> list[Line]:
        """The last lines."""
        lines: list[Line] = []
        token = self.token = None
        while len(lines) < count:
            found = self._ask(startFromHead=False, nextToken=token, limit=min(count, _PAGE))
            self.token = self.token or found["nextForwardToken"]
            lines = [*self._lines(found), *lines]
            if found["nextBackwardToken"] == token:
                break
            token = found["nextBackwardToken"]
        return lines

    def _ask(self, **what: Any) -> Any:
        given = {"logGroupName": LOG_GROUP, "logStreamName": self.name, "startTime": self.begin, **what}
        return self.client.get_log_events(**{name: value for name, value in given.items() if value is not None})

    def _lines(self, found: dict[str, Any]) -> list[Line]:
        events = found["events"]
        if events:
            self.behind = max(self.behind, events[-1]["timestamp"] + 1)
        return [
            Line(datetime.fromtimestamp(event["timestamp"] / 1000, timezone.utc), self.host, event["message"])
            for event in events
        ]
