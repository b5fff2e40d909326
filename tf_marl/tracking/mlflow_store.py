"""This module opens MLflow's stores: it handles their addresses, their accounts and new databases."""

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
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender retries
    "GIT_PYTHON_REFRESH": "quiet",
}.items():
    os.environ.setdefault(_name, _value)
logging.getLogger("alembic").setLevel(logging.WARNING)  # logs every step of creating a database


def local_store(folder: pathlib.Path) -> str:
    """Returns the tracking URI of the local store in `folder`, `mlflow.db`. The folder is created if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


def artifact_location(tracking_uri: str) -> str | None:
    """Returns where a store's artifacts belong: `artifacts` beside an SQLite database, and None for other stores.

    Left to itself, MLflow would put an SQLite store's artifacts into the current directory. None lets MLflow choose.
    """
    database = _database(tracking_uri)
    return (database.parent / "artifacts").as_uri() if database else None


def client(tracking_uri: str) -> Any:
    """Opens a store. A missing SQLite database is created, by one process even if several open it at the same time.

    Args:
        tracking_uri: address of the store.

    Returns:
        An `mlflow.MlflowClient`. MLflow then logs errors only.

    Raises:
        OSError: the folder of the database cannot be written.
        SinkError: the address does not belong to MLflow.
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
                MlflowClient(f"sqlite:///{unfinished}")  # hundreds of statements, all of them or none
                unfinished.rename(database)
    return MlflowClient(uri)


def signed_in(tracking_uri: str) -> str:
    """Moves the account out of an HTTP address, because MLflow prints its addresses.

    User and password go into this process's environment variables MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD. The address of a database keeps them, as it needs them.

    Args:
        tracking_uri: address of the store.

    Returns:
        The address for MLflow.

    Raises:
        SinkError: the address does not belong to MLflow.
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
    """Returns the file of an SQLite store; None for other stores."""
    scheme, _, rest = tracking_uri.partition(":///")
    return pathlib.Path(rest.partition("?")[0]).resolve() if scheme == "sqlite" else None
