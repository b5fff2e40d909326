"""MLflow: where a run's parameters, metrics, artifacts and fate are kept."""

import logging
import os
import pathlib
import subprocess
import urllib.parse
from importlib import metadata

import matplotlib.figure
import requests

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
logging.getLogger("alembic").setLevel(logging.WARNING)  # narrates the making of a new database

_VERSIONS = ("tensorflow", "tf-agents", "tensorflow-probability", "mlflow", "numpy")
_PROBE_SECONDS = 3.0


def local_store(folder: pathlib.Path) -> str:
    """The tracking URI of the local store in `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


def _artifact_location(tracking_uri: str) -> str | None:
    """`artifacts` beside an SQLite database, where MLflow would take the current directory; None: up to the server."""
    scheme, _, path = tracking_uri.partition(":///")
    return (pathlib.Path(path).resolve().parent / "artifacts").as_uri() if scheme == "sqlite" else None


def check_reachable(tracking_uri: str) -> None:
    """Asks a tracking server whether it is there.

    Raises:
        ValueError: it is an HTTP address and does not answer within seconds as an MLflow server does.
    """
    if urllib.parse.urlsplit(tracking_uri).scheme not in ("http", "https"):
        return
    try:
        requests.get(tracking_uri.rstrip("/") + "/health", timeout=_PROBE_SECONDS).raise_for_status()
    except requests.RequestException as error:
        raise ValueError(f"no MLflow server answers at {tracking_uri} ({type(error).__name__})") from None


class Tracker:
    """One MLflow run. Metrics leave in the background, so training does not wait for the store."""

    def __init__(
        self,
        tracking_uri: str,
        experiment: str,
        run_name: str,
        params: dict[str, str],
        tags: dict[str, str],
    ):
        """Starts the run.

        Args:
            tracking_uri: MLflow's address of the store.
            experiment: made if there is none of that name.
            run_name: for people to read.
            params: flat, one string per setting.
            tags: what to find the run by; versions and git commit are added.
        Raises:
            mlflow.exceptions.MlflowException: the store cannot be used.
        """
        import mlflow  # takes seconds

        self._mlflow = mlflow
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        mlflow.set_tracking_uri(tracking_uri)
        if mlflow.get_experiment_by_name(experiment) is None:
            # The kind makes MLflow's pages open on training runs, not on its tools for language models.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            mlflow.create_experiment(experiment, _artifact_location(tracking_uri), kind)
        mlflow.set_experiment(experiment)
        mlflow.set_system_metrics_sampling_interval(5)
        versions = {f"version.{package}": metadata.version(package) for package in _VERSIONS}
        self._run = mlflow.start_run(
            run_name=run_name, tags=tags | versions | {"git_commit": git_commit()}, log_system_metrics=True
        )
        mlflow.log_params(params)

    @property
    def run_id(self) -> str:
        return self._run.info.run_id

    @property
    def experiment_id(self) -> str:
        return self._run.info.experiment_id

    def record(self, env_steps: int, metrics: dict[str, float]) -> None:
        """Logs metrics at a step; returns at once."""
        self._mlflow.log_metrics(metrics, step=env_steps, synchronous=False)

    def text(self, text: str, name: str) -> None:
        """Keeps a text as an artifact."""
        self._mlflow.log_text(text, name)

    def file(self, path: pathlib.Path) -> None:
        """Keeps a file as an artifact, by its name."""
        self._mlflow.log_artifact(str(path))

    def figure(self, figure: matplotlib.figure.Figure, name: str) -> None:
        """Keeps a plot as an artifact."""
        self._mlflow.log_figure(figure, name)

    def finish(self, status: str, error: str | None = None) -> None:
        """Sends what is left and closes the run.

        Args:
            status: FINISHED, FAILED or KILLED.
            error: why, if it failed; becomes the tag `error`.
        """
        try:
            if error is not None:
                self._mlflow.set_tag("error", error)
        finally:
            self._mlflow.end_run(status)


def git_commit() -> str:
    """The commit of the code that runs, marked if it was changed since; `unknown` outside a git checkout."""
    here = pathlib.Path(__file__).parent
    try:
        describe = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(describe, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
