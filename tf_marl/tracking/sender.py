"""What a journal holds, sent to MLflow in the background: in order, as often as it takes, and there but once.

Everything sent may be sent again without a trace: a run is looked for by the mark that its journal began with before it
is made, and what it has at a step is left out; a metric equal in key, step, time and value is one row to MLflow's
stores; params and tags are set to what they are, artifacts written over. So how far sending has come is noted after the
fact, and a note that is lost, old, or about another store or another journal costs time alone.
"""

import contextlib
import itertools
import json
import logging
import pathlib
import threading
import time
from typing import Any

import requests

from tf_marl.tracking import address, models
from tf_marl.tracking.journal import Event, Journal

MARK = "tf_marl.journal"  # the tag by which a journal's run is found

_METRICS_PER_BATCH = 1000  # MLflow's limits
_PARAMS_PER_BATCH = 100
_FIRST_DELAY = 0.25  # seconds; doubles from failure to failure
_LONGEST_DELAY = 5.0
_OUTAGE_SECONDS = 60.0  # until it is worth a line
_POLL_SECONDS = 0.02

logger = logging.getLogger(__name__)


class Sender:
    """Sends a journal to one store, from a thread of its own."""

    def __init__(self, tracking_uri: str, folder: pathlib.Path, journal: Journal):
        """
        Args:
            tracking_uri: with no account in it if it is HTTP, see `address.signed_in`.
            folder: holds `artifacts/` that the journal names, and `sent.json`, how far sending has come.
            journal: to send; its first event starts the run.
        """
        self.run_id: str | None = None  # until the store answered
        self.experiment_id: str | None = None
        self.problem: str | None = None  # why the last try failed, if it did
        self.refused: list[str] = []  # what the store will never take, and so was passed over
        self._uri = tracking_uri
        self._folder = folder
        self._note = folder / "sent.json"
        self._journal = journal
        self._position = 0  # bytes of the journal that were sent
        self._there: set[tuple[str, int]] = set()  # (metric, step) that the run had when its start was sent again
        self._client: Any = None  # MLflow takes seconds to import
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
            if self._position > position:  # what is sent over and over, to a store that keeps losing it, is none
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
                self.problem = self._why(error)
                if self.run_id and getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
                    self.run_id, self._position = None, 0  # the store lost its data, and gets them anew
                if not told and time.monotonic() - failing_since > _OUTAGE_SECONDS:
                    logger.warning(
                        "%s does not take metrics: %s. They are kept.", address.shown(self._uri), self.problem
                    )
                    told = True
                self._stopping.wait(delay)
                delay = min(2 * delay, _LONGEST_DELAY)
            else:
                self.problem, delay = None, _FIRST_DELAY
                self._grown.wait()
                self._grown.clear()

    def _send(self, events: list[tuple[Event, int]]) -> None:
        if self._client is None:
            self._client = address.client(self._uri)
        self._journal.sync()  # or training might record anew, at another time, what a power cut made the journal forget
        for kind, group in itertools.groupby(events, key=lambda pair: pair[0]["event"]):
            pairs = list(group)
            if kind == "metrics":
                self._send_metrics([event for event, _ in pairs])
                self._advance(pairs[-1][1])
            else:
                for event, end in pairs:
                    getattr(self, f"_send_{kind}")(event)
                    self._advance(end)

    def _send_start(self, event: Event) -> None:
        from mlflow.entities import Param

        found = self._client.get_experiment_by_name(event["experiment"])
        # The kind makes MLflow's pages open on training runs, not on its tools for language models.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        self.experiment_id = (
            found.experiment_id
            if found
            else self._client.create_experiment(event["experiment"], address.artifact_location(self._uri), kind)
        )
        mark = event["tags"][MARK]
        runs = self._client.search_runs([self.experiment_id], f"tags.`{MARK}` = '{mark}'", max_results=1)
        run = (
            runs[0]
            if runs
            else self._client.create_run(self.experiment_id, event["time"], event["tags"], event["run_name"])
        )
        self.run_id = run.info.run_id
        self._there = {
            (metric, row.step)
            for metric in run.data.metrics
            for row in self._client.get_metric_history(self.run_id, metric)
        }
        self._send_batches("params", [Param(*item) for item in event["params"].items()], _PARAMS_PER_BATCH)

    def _send_resume(self, event: Event) -> None:
        from mlflow.entities import RunTag

        self._client.update_run(self.run_id, status="RUNNING")  # a deleted run refuses, until it is restored
        if "error" in self._client.get_run(self.run_id).data.tags:
            self._client.delete_tag(self.run_id, "error")
        self._send_batches("tags", [RunTag(*item) for item in event["tags"].items()], _PARAMS_PER_BATCH)

    def _send_metrics(self, events: list[Event]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(k, v, event["time"], event["step"]) for event in events for k, v in event["values"].items()]
        new = [metric for metric in metrics if (metric.key, metric.step) not in self._there]
        self._send_batches("metrics", new, _METRICS_PER_BATCH)

    def _send_artifact(self, event: Event) -> None:
        path = self._folder / "artifacts" / event["name"]
        into, _, _ = event["name"].rpartition("/")
        with self._passing_over_what_is_refused():
            self._client.log_artifact(self.run_id, str(path), into or None)

    def _send_model(self, event: Event) -> None:
        with self._passing_over_what_is_refused():
            folder = self._folder / "models" / str(event["step"])
            models.send(self._client, self.experiment_id, self.run_id, folder, event)

    def _send_finish(self, event: Event) -> None:
        with self._passing_over_what_is_refused():
            if event["error"] is not None:
                self._client.set_tag(self.run_id, "error", event["error"])
            self._client.set_terminated(self.run_id, event["status"], event["time"])

    def _send_batches(self, kind: str, items: list[Any], size: int) -> None:
        """Sends params, tags or metrics, at most `size` at once; of a batch that is refused, all that can be taken."""
        for i in range(0, len(items), size):
            batch = items[i : i + size]
            if len(batch) > 1:
                try:
                    self._client.log_batch(self.run_id, **{kind: batch})
                except Exception as error:
                    if not _is_refusal(error):
                        raise
                    self._send_batches(kind, batch, (len(batch) + 1) // 2)
            else:
                with self._passing_over_what_is_refused():
                    self._client.log_batch(self.run_id, **{kind: batch})

    @contextlib.contextmanager
    def _passing_over_what_is_refused(self):
        """Lets nothing that MLflow will never take stand before what it would."""
        try:
            yield
        except Exception as error:
            if not _is_refusal(error):
                raise
            self.refused.append(self._why(error))

    def _take_up(self) -> None:
        """Goes on where the last sender to this store came to; a folder copied meanwhile may not go that far."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self._note.read_text())
            if note["store"] == address.shown(self._uri):
                self.run_id, self.experiment_id = note["run_id"], note["experiment_id"]
                self._position = note["position"] if self._journal.is_between(note["position"]) else 0

    def _advance(self, position: int) -> None:
        note = {"store": address.shown(self._uri), "position": position}
        note |= {"run_id": self.run_id, "experiment_id": self.experiment_id}
        unfinished = self._note.with_suffix(".part")
        with contextlib.suppress(OSError):  # a full disk; then the next sender sends more of it again
            unfinished.write_text(json.dumps(note))
            unfinished.replace(self._note)
        self._position = position  # who waits for it may then remove the folder

    def _why(self, error: Exception) -> str:
        lines = str(error).strip().splitlines() or [""]
        return address.without_account(f"{type(error).__name__}: {lines[0]}"[:300], self._uri)


def _is_refusal(error: Exception) -> bool:
    """Whether asking again cannot help: MLflow calls the request itself wrong, or a file is gone or too large."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in (400, 413)
    if getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE":
        return "must be in the 'active' state" not in str(error)  # a deleted run can be restored
    return isinstance(error, FileNotFoundError)
