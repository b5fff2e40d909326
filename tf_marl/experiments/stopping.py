"""Ends training in good order when somebody stops the process.

    with first_signal() as stop:
        trainer.run(stop=stop)

The first signal asks training to save and end; a second one acts as it would without this.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


class Stop:
    """Tells whether someone asked the process to end, and by which signal."""

    def __init__(self) -> None:
        self._signal: int | None = None

    def __call__(self) -> bool:
        """Tells whether a signal came."""
        return self._signal is not None

    @property
    def code(self) -> int:
        """Returns the exit code of a process that ends for that signal; 0 if none came."""
        return 0 if self._signal is None else 128 + self._signal

    def ask(self, signal_number: int) -> None:
        """Notes that a signal came."""
        self._signal = signal_number


@contextlib.contextmanager
def first_signal() -> Iterator[Stop]:
    """Catches the first Ctrl-C or SIGTERM that comes inside, and yields what tells of it; a second one acts as ever.

    Raising an exception instead would not do: it comes wherever Python happens to be, and a destructor can swallow it.
    """
    stop = Stop()

    def remember(signal_number, frame):
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.ask(signal_number)
        again = "; Ctrl-C again leaves at once" if signal_number == signal.SIGINT else ""
        # Not by `print`, in the middle of which this may be.
        os.write(sys.stderr.fileno(), f"\nsaving and stopping after this update{again}\n".encode())

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
