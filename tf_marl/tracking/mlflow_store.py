"""MLflow's stores: how they are addressed, signed in to, made and asked."""

import fcntl
import logging
import os
import pathlib
import urllib.parse
from typing import Any

from tf_marl.tracking import address
from tf_marl.tracking.sink import SinkError, is_mlflow

for _name, _value in {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender's own suffice
    "GIT_PYTHON_REFRESH": "quiet",
}.items():
    os.environ.setdefault(_name, _value)
logging.getLogger("alembic").setLevel(logging.WARNING)  # narrates the making of a new database


def local_store(folder: pathlib.Path) -> str:
    """The tracking URI of the local store in `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


def artifact_location(tracking_uri: str) -> str | None:
    """`artifacts` beside an SQLite database, where MLflow would take the current directory; None: up to the server."""
    database = _database(tracking_uri)
    return (database.parent / "artifacts").as_uri() if database else None


def client(tracking_uri: str) -> Any:
    """A quiet `mlflow.MlflowClient`; its SQLite database is made if need be, by one process.

    Raises:
        OSError: the folder of the database cannot be written.
        SinkError: the address is none of MLflow's.
        mlflow.exceptions.MlflowException: the store cannot be used.
    """
    uri = signed_in(tracking_uri)
    from mlflow import MlflowClient  # takes seconds, and sets up MLflow's logging

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    database = _database(uri)
    if database and not database.exists():
        database.parent.mkdir(parents=True, exist_ok=True)
        with open(database.with_name(f".{database.name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not database.exists():  # else another process was first
                unfinished = database.with_name(f".{database.name}.part")
                unfinished.unlink(missing_ok=True)
                MlflowClient(f"sqlite:///{unfinished}")  # hundreds of statements, none of which may be lost
                unfinished.rename(database)
    return MlflowClient(uri)


def signed_in(tracking_uri: str) -> str:
    """The address to hand to MLflow, which prints what it is handed.

    User and password of an HTTP address go into the variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of
    this process; a database needs them in its address.

    Raises: SinkError: the address is none of MLflow's.
    """
    if not is_mlflow(tracking_uri):
        raise SinkError(f"{address.shown(tracking_uri)} has no registry of models; name an MLflow store")
    account, scheme, rest = address.split(tracking_uri)
    if not account or scheme not in ("http://", "https://"):
        return tracking_uri
    user, _, password = account.partition(":")
    os.environ["MLFLOW_TRACKING_USERNAME"] = urllib.parse.unquote(user)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = urllib.parse.unquote(password)
    return scheme + rest


def _database(tracking_uri: str) -> pathlib.Path | None:
    """The file of an SQLite store."""
    scheme, _, rest = tracking_uri.partition(":///")
    return pathlib.Path(rest.partition("?")[0]).resolve() if scheme == "sqlite" else None
