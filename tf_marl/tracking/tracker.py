"""The one whom training tells what a run does."""

import contextlib
import json
import pathlib
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

from tf_marl.tracking import sender, system
from tf_marl.tracking.address import shown
from tf_marl.tracking.files import written_whole
from tf_marl.tracking.journal import Event, Journal
from tf_marl.tracking.sink import MARK, open_sink

if TYPE_CHECKING:
    import matplotlib.figure

_VERSIONS = ("tensorflow", "tf-agents", "tensorflow-probability", "mlflow", "numpy")
_JOURNAL = "journal.jsonl"


def has_begun(folder: pathlib.Path) -> bool:
    """Whether a run was begun in that folder, so that it needs no store to go on."""
    return (folder / _JOURNAL).is_file()


def kept(folder: pathlib.Path) -> tuple[dict[str, str], list[dict[str, float]]]:
    """What the run tracked in a folder is and has recorded so far: its tags, and rows as `Tracker.history` gives."""
    with open(folder / _JOURNAL, encoding="utf-8") as journal:
        events = [json.loads(line) for line in journal if line.endswith("\n")]  # the last may be half written
    rows = [event["values"] | {"env_steps": event["step"]} for event in events if event["event"] == "metrics"]
    return events[0]["tags"], rows


class Tracker:
    """One run. It is taken up again by the next tracker with the same folder, whatever ended this one."""

    def __init__(
        self,
        tracking_uri: str,
        experiment: str,
        run_name: str,
        params: dict[str, str],
        tags: dict[str, str],
        folder: pathlib.Path,
        parent_run_id: str | None = None,
    ):
        """Starts the run, or goes on with the one in `folder`.

        One that goes on keeps its experiment, its name and its parent. Its tags change with those given here, and
        parameters that changed, which nobody may overlook, become tags `changed.NAME`.

        Args:
            tracking_uri: address of the sink, `folder:DIR` or one of MLflow's. Where another one is given than last
                time, it gets all of the run.
            experiment: made if there is none of that name.
            run_name: for people to read.
            params: flat, one string per setting.
            tags: what to find the run by; versions and git commit are added.
            folder: of the journal; made if need be.
            parent_run_id: of the run, in the same sink, that this one belongs to.
        Raises:
            SinkError: a run is to start, and the sink cannot be used.
            OSError: the folder cannot be written, or another process tracks a run in it.
            ValueError: the journal there was damaged; names it, and what to do.
        """
        sink = open_sink(tracking_uri)
        versions = {f"version.{package}": metadata.version(package) for package in _VERSIONS}
        tags = tags | versions | {"git_commit": git_commit()}
        path = folder / _JOURNAL
        self._folder = folder
        self._resume: Event | None = None  # to be written before anything else
        if has_begun(folder):
            self._journal = Journal(path)
            known = _settings(self._journal.events)
            changed = {f"changed.{name}": value for name, value in params.items() if known.get(name, value) != value}
            self._resume = {"event": "resume", "tags": tags | changed}
        else:
            start = {"event": "start", "experiment": experiment, "run_name": run_name, "params": params}
            tags = sink.prepare(experiment, parent_run_id) | tags | {MARK: uuid.uuid4().hex}
            with self._naming_the_folder():
                self._journal = Journal.create(path, start | {"tags": tags, "time": _now()})
        events = self._journal.events
        self.experiment: str = events[0]["experiment"]
        self.finished: bool = events[-1].get("status") == "FINISHED"
        self.has_model: bool = any(event["event"] == "model" for event in events)
        self._recorded = {(event["step"], name) for event in events for name in event.get("values", ())}
        events.clear()  # they are many
        self._sink = sink
        self._lock = threading.Lock()
        self._sender = sender.Sender(sink, folder, self._journal)
        self._system: system.Monitor | None = None

    @property
    def run_id(self) -> str | None:
        """What the sink calls the run; None until it answered."""
        return self._sink.run_id

    @property
    def experiment_id(self) -> str | None:
        """What the sink calls the experiment; None until it answered."""
        return self._sink.experiment_id

    def page(self) -> str | None:
        """What a person can open to look at the run; None if the sink has nothing, or did not answer yet."""
        return self._sink.page()

    def record(self, env_steps: int, metrics: dict[str, float]) -> None:
        """Keeps metrics at a step; returns at once.

        A metric that was recorded at that step is left as it is: training that goes on from a checkpoint may repeat
        what it recorded before it was stopped.

        Raises: OSError: the disk is full, or the like; names the folder.
        """
        with self._lock:
            new = {name: float(value) for name, value in metrics.items() if (env_steps, name) not in self._recorded}
            if new:
                self._append({"event": "metrics", "step": int(env_steps), "time": _now(), "values": new})
                self._recorded.update((env_steps, name) for name in new)
        if self._system is None and self._sink.system_metrics:
            steps = [step for step, name in self._recorded if name.startswith(system.PREFIX)]
            self._system = system.Monitor(self.record, max(steps, default=-1) + 1)

    def history(self) -> list[dict[str, float]]:
        """All that was recorded in the run's life, in order: metrics, and `env_steps` with them."""
        rows = []
        position = 0
        while events := self._journal.read(position):
            position = events[-1][1]
            rows += [
                event["values"] | {"env_steps": event["step"]} for event, _ in events if event["event"] == "metrics"
            ]
        return rows

    def text(self, text: str, name: str) -> None:
        """Keeps a text as an artifact; raises as `record` does."""
        with self._new_artifact(name) as path:
            path.write_text(text, "utf-8")

    def file(self, path: pathlib.Path) -> None:
        """Keeps a copy of a file as an artifact, by its name; raises as `record` does."""
        with self._new_artifact(path.name) as copy:
            shutil.copyfile(path, copy)

    def figure(self, figure: "matplotlib.figure.Figure", name: str) -> None:
        """Keeps a plot as an artifact; raises as `record` does."""
        with self._new_artifact(name) as path:
            figure.savefig(path)

    def model(
        self,
        folder: pathlib.Path,
        name: str,
        description: str,
        step: int,
        signature: dict[str, Any],
        metrics: dict[str, float],
    ) -> None:
        """Keeps a policy as a model of this run, for the sink to register if it can; one of that step is left as it is.

        Args:
            folder: that goes into the model: `saved_model`, and what is to lie beside it.
            name: to register it by; becomes a new version of that.
            description: of what has that name, for people to read.
            step: env steps that it trained for.
            signature: what the SavedModel's `serving_default` takes and returns, as its `signature.json` has it.
            metrics: that tell its worth.
        Raises: as `record` does.
        """
        about = {"name": name, "description": description, "step": step, "signature": signature, "values": metrics}
        recorded = {(step, metric) for metric in metrics}
        if recorded <= self._recorded:
            return
        path = self._folder / "models" / str(step)
        with self._naming_the_folder():
            shutil.rmtree(path, ignore_errors=True)  # of a process that came no further
            shutil.copytree(folder, path)
        with self._lock:
            self._append({"event": "model", "time": _now()} | about)
            self._recorded |= recorded

    def finish(self, status: str, error: str | None = None, patience: float = 30.0) -> str | None:
        """Closes the run and waits for what is left to reach the sink, as long as that makes progress.

        Args:
            status: FINISHED, FAILED or KILLED.
            error: why, if it failed.
            patience: seconds to wait for a sink that takes nothing.
        Returns: None; or if not all of the run is in the sink, what is not and where it is, a line for the user.
        """
        if self._system:
            self._system.stop()
        try:
            with self._lock:
                self._append({"event": "finish", "status": status, "error": error, "time": _now()})
        except OSError as full:
            self.flush(patience)
            return f"the run's end could not be written down: {full}"
        return self.flush(patience)

    def flush(self, patience: float = 30.0) -> str | None:
        """Waits as `finish` does, and returns the same, but leaves the run as it is: for one that had finished before.

        Nothing is sent after that.
        """
        sent = self._sender.wait(patience)
        self._sender.stop()
        store = shown(self._sink.address)
        if not sent:
            return (
                f"not all of the run has reached {store} ({self._sender.problem}); it is kept in {self._folder},"
                " and the same command sends it when started again"
            )
        if refused := self._sink.refused:
            return f"{store} refused {len(refused)} of the run's entries, kept in {self._folder}: {refused[0]}"
        return None

    def _append(self, event: Event) -> None:
        with self._naming_the_folder():
            if self._resume:
                self._journal.append(self._resume)
                self._resume, self.finished = None, False
            self._journal.append(event)
        self._sender.notice()

    @contextlib.contextmanager
    def _new_artifact(self, name: str) -> Iterator[pathlib.Path]:
        """Where to write an artifact, which is none before it is whole."""
        with self._naming_the_folder(), written_whole(self._folder / "artifacts" / name) as path:
            yield path
        with self._lock:
            self._append({"event": "artifact", "name": name})

    @contextlib.contextmanager
    def _naming_the_folder(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = error.strerror or str(error)
            raise OSError(error.errno, f"cannot keep the run's metrics in {self._folder}: {why}") from error


def git_commit() -> str:
    """The commit of the code that runs, marked if it was changed since; `unknown` outside a git checkout."""
    here = pathlib.Path(__file__).parent
    try:
        describe = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(describe, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _settings(events: list[Event]) -> dict[str, str]:
    """The parameters as the journal has them: those of the start, and what changed since."""
    known = dict(events[0]["params"])
    for event in events:
        if event["event"] == "resume":
            changed = {name: value for name, value in event["tags"].items() if name.startswith("changed.")}
            known |= {name.removeprefix("changed."): value for name, value in changed.items()}
    return known


def _now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
