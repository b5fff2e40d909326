"""What a journal holds, sent to a sink in the background: in order, as often as it takes, and there but once.

A sink takes without a trace what it has already. So how far sending has come is noted after the fact, and a note that
is lost, old, or about another sink or another journal costs time alone.
"""

import contextlib
import itertools
import json
import logging
import pathlib
import threading
import time

from tf_marl.tracking import address
from tf_marl.tracking.files import written_whole
from tf_marl.tracking.journal import Event, Journal
from tf_marl.tracking.sink import Metrics, Model, Sink

_FIRST_DELAY = 0.25  # seconds; doubles from failure to failure
_LONGEST_DELAY = 5.0
_OUTAGE_SECONDS = 60.0  # until it is worth a line
_POLL_SECONDS = 0.02

logger = logging.getLogger(__name__)


class Sender:
    """Sends a journal to one sink, from a thread of its own."""

    def __init__(self, sink: Sink, folder: pathlib.Path, journal: Journal):
        """
        Args:
            sink: for this sender alone.
            folder: holds `artifacts/` and `models/` that the journal names, and `sent.json`, how far sending has come.
            journal: to send; its first event starts the run.
        """
        self.problem: str | None = None  # why the last try failed, if it did
        self._sink = sink
        self._store = address.shown(sink.address)
        self._folder = folder
        self._note = folder / "sent.json"
        self._journal = journal
        self._position = 0  # bytes of the journal that were sent
        self._grown = threading.Event()
        self._stopping = threading.Event()
        self._take_up()
        self._thread = threading.Thread(target=self._run_and_close, name="tracking", daemon=True)
        self._thread.start()

    def notice(self) -> None:
        """The journal has grown."""
        self._grown.set()

    def wait(self, patience: float) -> bool:
        """Waits until all of the journal is sent; False if it fails for `patience` [seconds] without any progress."""
        position, since = self._position, time.monotonic()
        while self._position < self._journal.size:
            if self._position > position:  # what is sent over and over, to a sink that keeps losing it, is none
                position, since = self._position, time.monotonic()
            elif self.problem is not None and time.monotonic() - since >= patience:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def stop(self) -> None:
        """Ends the thread, and closes the journal, once it has an answer to what it is sending."""
        self._stopping.set()
        self._grown.set()

    def _run_and_close(self) -> None:
        with contextlib.closing(self._journal):
            self._run()

    def _run(self) -> None:
        failing_since, delay, told = 0.0, _FIRST_DELAY, False
        while not self._stopping.is_set():
            position = self._position
            try:
                while events := self._journal.read(self._position):
                    self._send(events)
                    if self._stopping.is_set():
                        return
            except Exception as error:  # whatever it is, training goes on and the journal keeps
                if self.problem is None:
                    failing_since, told = time.monotonic(), False
                if self._position != position:
                    delay = _FIRST_DELAY
                self.problem = self._sink.why(error)
                if self._sink.run_id and self._sink.lost(error):
                    self._sink.run_id, self._position = None, 0  # it lost its data, and gets them anew
                if not told and time.monotonic() - failing_since > _OUTAGE_SECONDS:
                    logger.warning("%s does not take metrics: %s. They are kept.", self._store, self.problem)
                    told = True
                self._stopping.wait(delay)
                delay = min(2 * delay, _LONGEST_DELAY)
            else:
                self.problem, delay = None, _FIRST_DELAY
                self._grown.wait()
                self._grown.clear()

    def _send(self, events: list[tuple[Event, int]]) -> None:
        self._journal.sync()  # or training might record anew, at another time, what a power cut made the journal forget
        for kind, group in itertools.groupby(events, key=lambda pair: pair[0]["event"]):
            pairs = list(group)
            if kind == "metrics":
                self._sink.record([Metrics(event["step"], event["time"], event["values"]) for event, _ in pairs])
                self._advance(pairs[-1][1])
            else:
                for event, end in pairs:
                    self._send_one(event)
                    self._advance(end)

    def _send_one(self, event: Event) -> None:
        sink = self._sink
        match event["event"]:
            case "start":
                sink.start(*(event[name] for name in ("experiment", "run_name", "params", "tags", "time")))
            case "resume":
                sink.resume(event["tags"])
            case "artifact":
                with sink.passing_over_what_is_refused():
                    sink.artifact(event["name"], self._folder / "artifacts" / event["name"])
            case "model":
                folder = self._folder / "models" / str(event["step"])
                facts = (event[name] for name in ("name", "description", "step", "time", "signature", "values"))
                with sink.passing_over_what_is_refused():
                    sink.model(Model(folder, *facts))
            case "finish":
                with sink.passing_over_what_is_refused():
                    sink.finish(event["status"], event["error"], event["time"])

    def _take_up(self) -> None:
        """Goes on where the last sender to this sink came to; a folder copied meanwhile may not go that far."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self._note.read_text())
            if note["store"] == self._store:
                self._sink.run_id, self._sink.experiment_id = note["run_id"], note["experiment_id"]
                self._position = note["position"] if self._journal.is_between(note["position"]) else 0

    def _advance(self, position: int) -> None:
        note = {"store": self._store, "position": position}
        note |= {"run_id": self._sink.run_id, "experiment_id": self._sink.experiment_id}
        # A full disk keeps no note; then the next sender sends more of it again.
        with contextlib.suppress(OSError), written_whole(self._note) as unfinished:
            unfinished.write_text(json.dumps(note))
        self._position = position  # who waits for it may then remove the folder
