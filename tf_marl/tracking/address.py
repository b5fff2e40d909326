"""Tracking addresses, and who may see what of them."""

import fcntl
import logging
import os
import pathlib
import urllib.parse
from typing import Any

import requests

_PROBE_SECONDS = 3.0


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
        mlflow.exceptions.MlflowException: the store cannot be used.
    """
    from mlflow import MlflowClient  # takes seconds, and sets up MLflow's logging

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    database = _database(tracking_uri)
    if database and not database.exists():
        database.parent.mkdir(parents=True, exist_ok=True)
        with open(database.with_name(f".{database.name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not database.exists():  # else another process was first
                unfinished = database.with_name(f".{database.name}.part")
                unfinished.unlink(missing_ok=True)
                MlflowClient(f"sqlite:///{unfinished}")  # hundreds of statements, none of which may be lost
                unfinished.rename(database)
    return MlflowClient(signed_in(tracking_uri))


def shown(tracking_uri: str) -> str:
    """The address as anyone may read it: without user, password and options."""
    _, scheme, address = _split(tracking_uri)
    return scheme + (address if address.startswith("/") else address.partition("?")[0])


def signed_in(tracking_uri: str) -> str:
    """The address to hand to MLflow, which prints what it is handed.

    User and password of an HTTP address go into the variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of
    this process; a database needs them in its address.
    """
    account, scheme, address = _split(tracking_uri)
    if not account or scheme not in ("http://", "https://"):
        return tracking_uri
    user, _, password = account.partition(":")
    os.environ["MLFLOW_TRACKING_USERNAME"] = urllib.parse.unquote(user)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = urllib.parse.unquote(password)
    return scheme + address


def without_account(text: str, tracking_uri: str) -> str:
    """A message, of a database driver for one, without the user and password of that address."""
    account, _, _ = _split(tracking_uri)
    _, _, password = account.partition(":")
    for secret in (account, password, urllib.parse.unquote(password)):
        text = text.replace(secret, "***") if secret else text
    return text


def check_reachable(tracking_uri: str) -> None:
    """Asks a tracking server whether it is there.

    Raises:
        ValueError: it is an HTTP address and does not answer within seconds as an MLflow server does.
    """
    uri = signed_in(tracking_uri)
    if not uri.startswith(("http://", "https://")):
        return
    account = tuple(os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    try:
        answer = requests.get(
            uri.rstrip("/") + "/health", timeout=_PROBE_SECONDS, auth=account if all(account) else None
        )
        answer.raise_for_status()
    except requests.RequestException as error:
        raise ValueError(f"no MLflow server answers at {shown(uri)} ({type(error).__name__})") from None


def _database(tracking_uri: str) -> pathlib.Path | None:
    """The file of an SQLite store."""
    scheme, _, rest = tracking_uri.partition(":///")
    return pathlib.Path(rest.partition("?")[0]).resolve() if scheme == "sqlite" else None


def _split(tracking_uri: str) -> tuple[str, str, str]:
    """(user:password, scheme://, the rest); a file's path has no account in front, whatever it holds."""
    scheme, mark, rest = tracking_uri.partition("://")
    if not mark or rest.startswith("/"):
        return "", scheme + mark, rest
    account, _, address = rest.rpartition("@")
    return account, scheme + mark, address
