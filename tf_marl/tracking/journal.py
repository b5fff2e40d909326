"""This module keeps events in an append-only file, one JSON object per line, that survives a crash of its writer."""

import fcntl
import json
import os
import pathlib
from typing import Any

Event = dict[str, Any]

_READ_BYTES = 1 << 16  # about 1,300 metrics: what the sender sends before it notes its position


class Journal:
    """Holds a journal open for writing. Only one thread of one process at a time may write; others may read."""

    def __init__(self, path: pathlib.Path):
        """Opens a journal, and cuts off an incomplete event that a crash has left at its end.

        Args:
            path: the file.

        Raises:
            OSError: the file cannot be opened.
            BlockingIOError: another process has it open for writing.
            ValueError: a line before the last is not an event, or the first one does not start a run. The message
                names the file and a remedy.
        """
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            # The system releases this kind of lock when the process ends. Child processes do not inherit it.
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise BlockingIOError(f"{path.parent} belongs to a run that is still going on") from None
        self.size = 0  # bytes of whole events
        self.events: list[Event] = self._recover()

    @classmethod
    def create(cls, path: pathlib.Path, first: Event) -> "Journal":
        """Creates a journal with its first event. The file appears only once that event is complete.

        Args:
            path: the new file; its parent folders are created.
            first: the event that starts the run.

        Returns:
            The journal, open for writing.

        Raises:
            OSError: the file cannot be written.
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
        """Adds an event. When this returns, the event survives a crash of this process (for power cuts, see `sync`).

        Raises:
            OSError: the event cannot be written. The journal is then as it was before.
        """
        line = _line(event)
        done = 0
        while done < len(line):  # the next event overwrites a line that a full disk has cut short
            done += os.pwrite(self._fd, line[done:], self.size + done)
        self.size += len(line)

    def read(self, position: int) -> list[tuple[Event, int]]:
        """Reads the next events, about 64 KiB of them at most.

        Args:
            position: where to start, in bytes from the beginning; the end of an event.

        Returns:
            Events, each with the position after it; an empty list at the end of the journal.
        """
        size, length = self.size, _READ_BYTES
        while b"\n" not in (data := os.pread(self._fd, min(length, size - position), position)) and data:
            length *= 2
        events = []
        for line in data.split(b"\n")[:-1]:
            position += len(line) + 1
            events.append((json.loads(line), position))
        return events

    def is_between(self, position: int) -> bool:
        """Returns whether `position`, in bytes, is the journal's beginning or the end of one of its events."""
        return position == 0 or (position <= self.size and os.pread(self._fd, 1, position - 1) == b"\n")

    def sync(self) -> None:
        """Writes all added events to the disk, so that they survive a power cut too."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Closes the file, so that another process can write to it. Nothing can be added or read afterwards."""
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _recover(self) -> list[Event]:
        # Reads by the descriptor that holds the lock: closing another one of the same file would release it.
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
