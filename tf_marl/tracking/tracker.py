"""This module defines the tracker, to which training hands a run's metrics, artifacts and models."""

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

from tf_marl import __version__, places
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
    """Returns whether a folder holds the journal of a run. Such a run can be resumed even if its sink is down."""
    return (folder / _JOURNAL).is_file()


def kept(folder: pathlib.Path) -> tuple[dict[str, str], list[dict[str, float]]]:
    """Reads from a folder's journal what its run has recorded so far. The run may be going on in another process.

    Args:
        folder: the folder that a tracker was given.

    Returns:
        The tags with which the run started, and its metrics in order, one dict for each time of recording, with
        `env_steps` added.

    Raises:
        OSError: the folder holds no journal.
    """
    with open(folder / _JOURNAL, encoding="utf-8") as journal:
        events = [json.loads(line) for line in journal if line.endswith("\n")]  # the last line may be incomplete
    rows = [event["values"] | {"env_steps": event["step"]} for event in events if event["event"] == "metrics"]
    return events[0]["tags"], rows


class Tracker:
    """Records one run. The next tracker with the same folder resumes the run, however this one ended."""

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
        """Starts a run, or resumes the one in `folder`.

        A resumed run keeps its experiment, its name and its parent. The tags given here replace older ones of the same
        names. Parameters that have changed become tags `changed.NAME`, so that nobody overlooks them.

        Args:
            tracking_uri: address of the sink, `folder:DIR` or one of MLflow's. A sink with another address than last
                time gets the whole run.
            experiment: name of the experiment; created if there is none.
            run_name: name of the run, for people to read.
            params: the run's settings, one string for each name.
            tags: tags to find the run by. Versions and the git commit are added.
            folder: where the journal is; created if need be.
            parent_run_id: the sink's name of the run that this one belongs to; None for no such run.

        Raises:
            SinkError: a new run should start, but the sink cannot be used.
            OSError: the folder cannot be written, or another process tracks a run in it.
            ValueError: the journal is damaged. The message names the file and a remedy.
        """
        sink = open_sink(tracking_uri)
        versions = {f"version.{package}": metadata.version(package) for package in _VERSIONS}
        tags = tags | versions | {"git_commit": git_commit()}
        path = folder / _JOURNAL
        self._folder = folder
        self._resume: Event | None = None  # goes into the journal before the first event of this process
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
        events.clear()  # frees memory
        self._sink = sink
        self._lock = threading.Lock()
        self._sender = sender.Sender(sink, folder, self._journal)
        self._system: system.Monitor | None = None

    @property
    def run_id(self) -> str | None:
        """Returns the sink's name of the run; None until the sink has answered."""
        return self._sink.run_id

    @property
    def experiment_id(self) -> str | None:
        """Returns the sink's name of the experiment; None until the sink has answered."""
        return self._sink.experiment_id

    def page(self) -> str | None:
        """Returns what a person can open to see the run; None if the sink has no page or has not answered yet."""
        return self._sink.page()

    def record(self, env_steps: int, metrics: dict[str, float]) -> None:
        """Keeps the metrics of a step, without waiting for the sink.

        A metric that has a value at that step already keeps it. This matters when training resumes from a checkpoint
        and repeats what it had recorded before it stopped.

        Args:
            env_steps: the step, in env steps.
            metrics: values by name.

        Raises:
            OSError: the journal cannot be written, for example on a full disk. The message names the folder.
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
        """Returns all metrics of the run in order, those of earlier processes included.

        Returns:
            One dict for each time of recording, with `env_steps` added.
        """
        rows = []
        position = 0
        while events := self._journal.read(position):
            position = events[-1][1]
            rows += [
                event["values"] | {"env_steps": event["step"]} for event, _ in events if event["event"] == "metrics"
            ]
        return rows

    def text(self, text: str, name: str) -> None:
        """Keeps a text as an artifact.

        Args:
            text: the content.
            name: the artifact's name, with slashes for folders.

        Raises:
            OSError: the text cannot be written. The message names the folder.
        """
        with self._new_artifact(name) as path:
            path.write_text(text, "utf-8")

    def file(self, path: pathlib.Path) -> None:
        """Keeps a copy of a file as an artifact with the file's name.

        Raises:
            OSError: the copy cannot be written. The message names the folder.
        """
        with self._new_artifact(path.name) as copy:
            shutil.copyfile(path, copy)

    def figure(self, figure: "matplotlib.figure.Figure", name: str) -> None:
        """Keeps a plot as an artifact.

        Args:
            figure: the plot.
            name: the artifact's name, with slashes for folders. Its suffix chooses the format.

        Raises:
            OSError: the plot cannot be written. The message names the folder.
        """
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
        """Keeps a policy as a model of this run. A sink with a registry of models registers it.

        If all of `metrics` have values at `step` already, the policy was kept before, and nothing happens.

        Args:
            folder: the model's files: the folder `saved_model`, and what should be beside it.
            name: of the registered model; the policy becomes its new version.
            description: of the registered model, for people to read.
            step: env steps that the policy trained for.
            signature: inputs and outputs of the SavedModel's `serving_default`, as `signature.json` has them.
            metrics: evaluation results of the policy.

        Raises:
            OSError: the files or the journal cannot be written. The message names the folder.
        """
        about = {"name": name, "description": description, "step": step, "signature": signature, "values": metrics}
        recorded = {(step, metric) for metric in metrics}
        if recorded <= self._recorded:
            return
        path = self._folder / "models" / str(step)
        with self._naming_the_folder():
            shutil.rmtree(path, ignore_errors=True)  # an incomplete copy, left by a process that was stopped
            shutil.copytree(folder, path)
        with self._lock:
            self._append({"event": "model", "time": _now()} | about)
            self._recorded |= recorded

    def finish(self, status: str, error: str | None = None, patience: float = 30.0) -> str | None:
        """Ends the run, and waits until the sink has all of it or makes no progress any more.

        Args:
            status: FINISHED, FAILED or KILLED.
            error: why the run failed; None if it did not.
            patience: seconds to wait for a sink that takes nothing.

        Returns:
            None if the sink has the whole run; else a line that tells the user what is missing and where it is kept.
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
        """Waits until the sink has all of the run or makes no progress any more, without ending the run.

        It is for a run that had finished before. Nothing is sent afterwards.

        Args:
            patience: seconds to wait for a sink that takes nothing.

        Returns:
            None if the sink has the whole run; else a line that tells the user what is missing and where it is kept.
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
        """Yields a path to write an artifact to, and adds the artifact to the journal once it is complete."""
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
    """Returns the git commit of this code, with `-dirty` if files have changed; outside of a checkout the release."""
    if places.CHECKOUT is None:  # the folder may be in another project's repository
        return f"release {__version__}"
    try:
        describe = ["git", "-C", str(places.CHECKOUT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(describe, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _settings(events: list[Event]) -> dict[str, str]:
    """Returns the run's current parameters: those of its start, with the changes of later events."""
    known = dict(events[0]["params"])
    for event in events:
        if event["event"] == "resume":
            changed = {name: value for name, value in event["tags"].items() if name.startswith("changed.")}
            known |= {name.removeprefix("changed."): value for name, value in changed.items()}
    return known


def _now() -> int:
    """Returns the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
