"""What a run's parameters, metrics, artifacts and models go to: a class for each kind of place, chosen by address."""

import abc
import contextlib
import pathlib
import pkgutil
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tf_marl.tracking import address

MARK = "tf_marl.journal"  # the tag that tells runs apart, whatever they are called
SAVED_MODEL = "saved_model"  # in the folder of a model

_MLFLOW = "tf_marl.tracking.mlflow_sink:MLflowSink"  # of all addresses that begin with no scheme below
_SINKS: dict[str, "str | type[Sink]"] = {"folder": "tf_marl.tracking.folder_sink:FolderSink"}  # scheme -> class


class SinkError(Exception):
    """An address that cannot be used; the message says which, why and what to do, in its first line."""


class Metrics(NamedTuple):
    """What was recorded at a step."""

    step: int  # env steps
    time: int  # milliseconds since 1970
    values: dict[str, float]


class Model(NamedTuple):
    """A policy to keep."""

    folder: pathlib.Path  # its files, `saved_model` among them
    name: str  # to register it by
    description: str  # of what has that name, for people to read
    step: int  # env steps that it trained for
    time: int  # milliseconds since 1970
    signature: dict[str, Any]  # what `serving_default` takes and returns
    metrics: dict[str, float]  # that tell its worth


class Sink(abc.ABC):
    """Where one run is kept.

    It is told what the run's journal says, in that order, by one thread that nobody waits for. Whatever it raises,
    the same comes again later; and what it took may come again too, after a crash or an answer that was lost, and must
    then be there but once. So it has no need to be up, quick or careful.
    """

    system_metrics = False  # whether it is to have what the machine does meanwhile

    def __init__(self, tracking_uri: str):
        """Raises: SinkError: no such address can be."""
        self.address = tracking_uri
        # As the sink calls them: from `start` on, or set by whoever goes on with the run in another process.
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self.refused: list[str] = []  # what it will never take, and so was passed over

    @abc.abstractmethod
    def check_reachable(self) -> None:
        """Asks, within seconds, whether anything is there. Raises: SinkError: nothing is."""

    def prepare(self, experiment: str, parent_run_id: str | None) -> dict[str, str]:
        """Asks whether a run can start, so that a wrong address shows before minutes of work.

        Returns: tags of the sink's own for the run, which tell its parent if it has one.
        Raises: SinkError: it cannot.
        """
        self.check_reachable()
        return {"parent_run_id": parent_run_id} if parent_run_id else {}

    @abc.abstractmethod
    def start(self, experiment: str, run_name: str, params: dict[str, str], tags: dict[str, str], time: int) -> None:
        """Makes the run, or finds the one that has the same tag `MARK`; sets `run_id` and `experiment_id`."""

    @abc.abstractmethod
    def resume(self, tags: dict[str, str]) -> None:
        """Marks the run as going on, and changes tags."""

    @abc.abstractmethod
    def record(self, rows: Sequence[Metrics]) -> None:
        """Keeps metrics, one value for each step at most."""

    @abc.abstractmethod
    def artifact(self, name: str, path: pathlib.Path) -> None:
        """Keeps a copy of the file at `path` under a name with slashes, in the place of an older one."""

    @abc.abstractmethod
    def model(self, model: Model) -> None:
        """Keeps a copy of a policy, and its metrics as the run's; one of that step is left as it is."""

    @abc.abstractmethod
    def finish(self, status: str, error: str | None, time: int) -> None:
        """Marks the run as FINISHED, FAILED or KILLED, and says why if it failed."""

    def page(self) -> str | None:
        """What a person can open to look at the run, maybe after what to start for that; None if there is nothing."""
        return None

    def lost(self, error: Exception) -> bool:
        """Whether an error means that the sink has this run no more, so that it gets all of it anew."""
        return False

    def refuses(self, error: Exception) -> bool:
        """Whether asking again cannot help: by default, if a file to keep is gone."""
        return isinstance(error, FileNotFoundError) and not self.lost(error)

    def why(self, error: Exception) -> str:
        """An error in a line, without user and password."""
        lines = str(error).strip().splitlines() or [""]
        return address.without_account(f"{type(error).__name__}: {lines[0]}"[:300], self.address)

    @contextlib.contextmanager
    def passing_over_what_is_refused(self) -> Iterator[None]:
        """Lets nothing that the sink will never take stand before what it would."""
        try:
            yield
        except Exception as error:
            if not self.refuses(error):
                raise
            self.refused.append(self.why(error))


def register(scheme: str, sink: type[Sink]) -> None:
    """Makes a kind of place known: addresses `SCHEME:...` are its own from then on.

    Raises: ValueError: another one has that scheme.
    """
    if _SINKS.get(scheme, sink) is not sink:
        raise ValueError(f"sink {scheme!r} is there already; choose another name")
    _SINKS[scheme] = sink


def open_sink(tracking_uri: str) -> Sink:
    """The sink that has an address. Nothing is asked or imported that can wait. Raises: SinkError: none can have it."""
    kind = _SINKS.get(tracking_uri.partition(":")[0], _MLFLOW)
    sink: Sink = (pkgutil.resolve_name(kind) if isinstance(kind, str) else kind)(tracking_uri)
    return sink


def is_mlflow(tracking_uri: str) -> bool:
    """Whether the address is one of MLflow's, which alone has a registry of models, with versions and champions."""
    return tracking_uri.partition(":")[0] not in _SINKS


def absolute(tracking_uri: str) -> str:
    """The address, to be used from any current directory. Raises: SinkError: no sink can have it."""
    return tracking_uri if is_mlflow(tracking_uri) else open_sink(tracking_uri).address


def check_reachable(tracking_uri: str) -> None:
    """Asks, within seconds, whether anything is at an address. Raises: SinkError: nothing is, or it cannot be used."""
    open_sink(tracking_uri).check_reachable()
