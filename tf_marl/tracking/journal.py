"""An append-only file of events, one JSON object a line, that survives whatever ends the process which writes it."""

import fcntl
import json
import os
import pathlib
from typing import Any

Event = dict[str, Any]

_READ_BYTES = 1 << 16  # some 1,300 metrics: as much as goes out between two notes of how far sending has come


class Journal:
    """A journal open for writing: by one process at a time, and in it by one thread; others may read."""

    def __init__(self, path: pathlib.Path):
        """Opens a journal and cuts off what a crash left unfinished at its end.

        Raises:
            OSError: it cannot be opened, or (BlockingIOError) another process writes it.
            ValueError: a line before the last is no event, or the first starts no run; names the file and what to do.
        """
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            # Of the kind that ends with the process, and that children of it do not inherit.
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise BlockingIOError(f"{path.parent} belongs to a run that is still going on") from None
        self.size = 0  # bytes of whole events
        self.events: list[Event] = self._recover()

    @classmethod
    def create(cls, path: pathlib.Path, first: Event) -> "Journal":
        """Starts a journal; if `path` exists, its first event is whole.

        Raises: OSError: nothing can be written there.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        with open(unfinished, "wb") as file:
            file.write(_line(first))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        return cls(path)

    def append(self, event: Event) -> None:
        """Adds an event, which is safe from the end of this process from then on.

        Raises: OSError: it could not be written; the journal is as before.
        """
        line = _line(event)
        done = 0
        while done < len(line):  # what a full disk cut short is written over by the next event, or cut off
            done += os.pwrite(self._fd, line[done:], self.size + done)
        self.size += len(line)

    def read(self, position: int) -> list[tuple[Event, int]]:
        """The next events from `position` [bytes] on, each with the position after it; some of them if many."""
        size, length = self.size, _READ_BYTES
        while b"\n" not in (data := os.pread(self._fd, min(length, size - position), position)) and data:
            length *= 2
        events = []
        for line in data.split(b"\n")[:-1]:
            position += len(line) + 1
            events.append((json.loads(line), position))
        return events

    def is_between(self, position: int) -> bool:
        """Whether `position` [bytes] is the journal's beginning or the end of an event."""
        return position == 0 or (position <= self.size and os.pread(self._fd, 1, position - 1) == b"\n")

    def sync(self) -> None:
        """Makes what was added safe from a power cut, too."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Lets another process go on with it; nothing can be added or read any more."""
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _recover(self) -> list[Event]:
        # By this descriptor: closing another one of the same file would give up the lock.
        *lines, unfinished = os.pread(self._fd, os.fstat(self._fd).st_size, 0).split(b"\n")
        events = []
        for number, line in enumerate(lines, start=1):
            try:
                events.append(_event(line))
            except ValueError:
                if number < len(lines) or unfinished:
                    raise self._damaged(number, "not an event") from None
                break
            self.size += len(line) + 1
        if not events or events[0]["event"] != "start":
            raise self._damaged(1, "not the start of a run")
        os.ftruncate(self._fd, self.size)
        return events

    def _damaged(self, line: int, what: str) -> ValueError:
        remedy = f"move {self._path.parent} elsewhere, and the same command goes on, as a new run"
        return ValueError(f"{self._path}, line {line}: {what}; the file was damaged; {remedy}")


def _event(line: bytes) -> Event:
    event = json.loads(line)
    if not isinstance(event, dict) or "event" not in event:
        raise ValueError
    return event


def _line(event: Event) -> bytes:
    return json.dumps(event).encode() + b"\n"
