"""This module defines sinks, the places that keep runs, and selects one by its address."""

import abc
import contextlib
import pathlib
import pkgutil
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tf_marl.tracking import address

MARK = "tf_marl.journal"  # the tag that identifies a run, as names may repeat
SAVED_MODEL = "saved_model"  # name of the SavedModel's folder in the folder of a model

_MLFLOW = "tf_marl.tracking.mlflow_sink:MLflowSink"  # for every address that starts with no scheme below
_SINKS: dict[str, "str | type[Sink]"] = {"folder": "tf_marl.tracking.folder_sink:FolderSink"}  # scheme -> class


class SinkError(Exception):
    """Says that an address cannot be used. The first line of the message names it, the cause and a remedy."""


class Metrics(NamedTuple):
    """Holds the metrics of one step."""

    step: int  # env steps
    time: int  # milliseconds since 1970
    values: dict[str, float]


class Model(NamedTuple):
    """Describes a policy to keep."""

    folder: pathlib.Path  # its files, with the SavedModel in `saved_model`
    name: str  # of the registered model
    description: str  # of the registered model, for people to read
    step: int  # env steps that the policy trained for
    time: int  # milliseconds since 1970
    signature: dict[str, Any]  # inputs and outputs of `serving_default`
    metrics: dict[str, float]  # evaluation results of the policy


class Sink(abc.ABC):
    """Keeps one run.

    One thread, for which training does not wait, passes the events of the run's journal to the sink in order. If a
    method raises, the thread calls it again later with the same event. An event that the sink has taken may come again
    too, after a crash or if its answer was lost; the sink must then keep it only once. So a sink may be slow or down.
    """

    system_metrics = False  # whether the run's metrics include the machine's load

    def __init__(self, tracking_uri: str):
        """Opens the address, without asking whether anything is there.

        Args:
            tracking_uri: address of the sink.

        Raises:
            SinkError: the address is not valid.
        """
        self.address = tracking_uri
        # The sink's own names. `start` sets them, or the sender does when another process has started the run.
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self.refused: list[str] = []  # errors of what the sink will never take and the sender has skipped

    @abc.abstractmethod
    def check_reachable(self) -> None:
        """Checks within seconds whether anything answers at the address.

        Raises:
            SinkError: nothing does.
        """

    def prepare(self, experiment: str, parent_run_id: str | None) -> dict[str, str]:
        """Checks whether a run can start, so that a wrong address shows before minutes of work.

        Args:
            experiment: the run's experiment.
            parent_run_id: the sink's name of the run that the new run belongs to; None for no such run.

        Returns:
            The sink's own tags for the run. They name the parent run if there is one.

        Raises:
            SinkError: the run cannot start.
        """
        self.check_reachable()
        return {"parent_run_id": parent_run_id} if parent_run_id else {}

    @abc.abstractmethod
    def start(self, experiment: str, run_name: str, params: dict[str, str], tags: dict[str, str], time: int) -> None:
        """Creates the run, or finds the one with the same tag `MARK`, and sets `run_id` and `experiment_id`.

        Args:
            experiment: name of the experiment; created if there is none.
            run_name: name of the run, for people to read.
            params: the run's settings.
            tags: the run's tags, `MARK` among them.
            time: when the run started, in milliseconds since 1970.
        """

    @abc.abstractmethod
    def resume(self, tags: dict[str, str]) -> None:
        """Marks the run as running again, and sets tags, which replace older ones of the same names."""

    @abc.abstractmethod
    def record(self, rows: Sequence[Metrics]) -> None:
        """Keeps metrics, at most one value of each metric per step."""

    @abc.abstractmethod
    def artifact(self, name: str, path: pathlib.Path) -> None:
        """Keeps a copy of a file, which replaces an older one of the same name.

        Args:
            name: the artifact's name, with slashes for folders.
            path: the file.
        """

    @abc.abstractmethod
    def model(self, model: Model) -> None:
        """Keeps a copy of a policy, and its metrics as metrics of the run. A policy of that step is not replaced."""

    @abc.abstractmethod
    def finish(self, status: str, error: str | None, time: int) -> None:
        """Marks the run as ended.

        Args:
            status: FINISHED, FAILED or KILLED.
            error: why the run failed; None if it did not.
            time: when it ended, in milliseconds since 1970.
        """

    def page(self) -> str | None:
        """Returns what a person can open to see the run, with a command to start first if need be; None for nothing."""
        return None

    def lost(self, error: Exception) -> bool:
        """Returns whether an error means that the sink has lost this run. The sender then sends all of it again."""
        return False

    def refuses(self, error: Exception) -> bool:
        """Returns whether an error will come again at every retry: by default, if a file to keep is missing."""
        return isinstance(error, FileNotFoundError) and not self.lost(error)

    def why(self, error: Exception) -> str:
        """Returns an error's type and message in one line, without the address's user and password."""
        lines = str(error).strip().splitlines() or [""]
        return address.without_account(f"{type(error).__name__}: {lines[0]}"[:300], self.address)

    @contextlib.contextmanager
    def passing_over_what_is_refused(self) -> Iterator[None]:
        """Skips what the sink will never take, so that it does not block what comes after it.

        Inside this context, an error that the sink `refuses` is noted in `refused`; all others pass.
        """
        try:
            yield
        except Exception as error:
            if not self.refuses(error):
                raise
            self.refused.append(self.why(error))


def register(scheme: str, sink: type[Sink]) -> None:
    """Registers a kind of sink for all addresses `SCHEME:...`.

    Args:
        scheme: what its addresses start with, without the colon.
        sink: the class.

    Raises:
        ValueError: another class has that scheme.
    """
    if _SINKS.get(scheme, sink) is not sink:
        raise ValueError(f"sink {scheme!r} is there already; choose another name")
    _SINKS[scheme] = sink


def open_sink(tracking_uri: str) -> Sink:
    """Opens the sink of an address. It asks no server and does not import MLflow yet.

    Raises:
        SinkError: the address is not valid.
    """
    kind = _SINKS.get(tracking_uri.partition(":")[0], _MLFLOW)
    sink: Sink = (pkgutil.resolve_name(kind) if isinstance(kind, str) else kind)(tracking_uri)
    return sink


def is_mlflow(tracking_uri: str) -> bool:
    """Returns whether an address belongs to MLflow, the only sink with a registry of models and their versions."""
    return tracking_uri.partition(":")[0] not in _SINKS


def absolute(tracking_uri: str) -> str:
    """Returns the address in a form that holds in any current directory. MLflow's addresses are left as they are.

    Raises:
        SinkError: the address is not valid.
    """
    return tracking_uri if is_mlflow(tracking_uri) else open_sink(tracking_uri).address


def check_reachable(tracking_uri: str) -> None:
    """Checks within seconds whether anything answers at an address.

    Raises:
        SinkError: nothing does, or the address is not valid.
    """
    open_sink(tracking_uri).check_reachable()
