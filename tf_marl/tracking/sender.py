"""This module sends a journal's events to a sink in the background, in order, and retries until the sink takes them.

A file notes how far the sender has come, after the sink has taken an event. Sinks ignore events that they have already.
So a note that is lost, old, or about another sink or journal only costs time: events are sent again.
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
_OUTAGE_SECONDS = 60.0  # until the user is warned
_POLL_SECONDS = 0.02

logger = logging.getLogger(__name__)


class Sender:
    """Sends a journal to one sink in a thread of its own."""

    def __init__(self, sink: Sink, folder: pathlib.Path, journal: Journal):
        """Starts the thread, where the last sender to this sink has stopped.

        Args:
            sink: a sink that nothing else uses.
            folder: holds the `artifacts/` and `models/` that the journal names, and `sent.json`, which notes how far
                the sender has come.
            journal: the journal to send. Its first event starts the run.
        """
        self.problem: str | None = None  # why the last try failed; None if it did not
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
        """Tells the thread that the journal has grown."""
        self._grown.set()

    def wait(self, patience: float) -> bool:
        """Waits until the sink has taken the whole journal.

        Args:
            patience: seconds to wait while tries fail and nothing more gets through.

        Returns:
            Whether all was sent.
        """
        position, since = self._position, time.monotonic()
        while self._position < self._journal.size:
            if self._position > position:  # progress; sending again what the sink has lost does not count
                position, since = self._position, time.monotonic()
            elif self.problem is not None and time.monotonic() - since >= patience:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def stop(self) -> None:
        """Tells the thread to end and to close the journal, once the sink has answered what is being sent."""
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
            except Exception as error:  # whatever failed, training goes on, and the journal keeps the events
                if self.problem is None:
                    failing_since, told = time.monotonic(), False
                if self._position != position:
                    delay = _FIRST_DELAY
                self.problem = self._sink.why(error)
                if self._sink.run_id and self._sink.lost(error):
                    self._sink.run_id, self._position = None, 0  # the sink has lost the run: send all of it again
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
        # Else the sink could have events that a power cut removes from the journal, and that are then recorded again.
        self._journal.sync()
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
        """Starts where the last sender to this sink has stopped, if the journal has an event that ends there.

        A folder that was copied while a sender ran may hold a note that is ahead of its journal.
        """
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self._note.read_text())
            if note["store"] == self._store:
                self._sink.run_id, self._sink.experiment_id = note["run_id"], note["experiment_id"]
                self._position = note["position"] if self._journal.is_between(note["position"]) else 0

    def _advance(self, position: int) -> None:
        note = {"store": self._store, "position": position}
        note |= {"run_id": self._sink.run_id, "experiment_id": self._sink.experiment_id}
        # On a full disk there is no new note, and the next sender sends more events again.
        with contextlib.suppress(OSError), written_whole(self._note) as unfinished:
            unfinished.write_text(json.dumps(note))
        self._position = position  # last, because whoever waits for it may then remove the folder
