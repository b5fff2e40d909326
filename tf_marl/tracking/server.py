"""Asks an MLflow server, by plain HTTP requests, whether it answers and whether it takes what a client writes.

MLflow's own client takes seconds to import and gives up late, so nothing here imports it. No message shows the user or
the password of an address.
"""

import os
import urllib.parse

import requests

from tf_marl.tracking import address
from tf_marl.tracking.sink import SinkError

_PROBE_SECONDS = 3.0  # to connect, and then to answer
_TAG = {"experiment_id": "0", "key": "tf_marl.probe"}  # of the experiment that every server has


def check_health(tracking_uri: str) -> None:
    """Checks that an MLflow server answers at an address, and waits a few seconds for it at most.

    Args:
        tracking_uri: an http or https address, with `user:password@` if need be. Without an account in it, that of the
            variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD is used, as MLflow does.
    Raises:
        SinkError: no server answers, or it reports an error.
    """
    try:
        _request("GET", tracking_uri, "/health")
    except requests.RequestException as error:
        raise SinkError(f"no MLflow server answers at {address.shown(tracking_uri)} ({_why(error)})") from None


def check_writing(tracking_uri: str) -> None:
    """Checks that an MLflow server takes what is written: sets a tag of its default experiment and deletes it again.

    Args:
        tracking_uri: an http or https address, with `user:password@` if need be. Without an account in it, that of the
            variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD is used, as MLflow does.
    Raises:
        SinkError: the server refuses, or stopped answering.
    """
    experiments = "/api/2.0/mlflow/experiments"
    try:
        _request("POST", tracking_uri, f"{experiments}/set-experiment-tag", **_TAG, value="written")
        _request("POST", tracking_uri, f"{experiments}/delete-experiment-tag", **_TAG)
    except requests.RequestException as error:
        shown = address.shown(tracking_uri)
        raise SinkError(f"{shown} answers, but does not take what is written ({_why(error)})") from None


def _request(method: str, tracking_uri: str, path: str, **body: str) -> None:
    """Sends one request, with the account; raises requests.RequestException unless the answer is a success."""
    url = address.shown(tracking_uri).rstrip("/") + path
    account = _account(tracking_uri)
    requests.request(method, url, json=body or None, auth=account, timeout=_PROBE_SECONDS).raise_for_status()


def _account(tracking_uri: str) -> tuple[bytes, bytes] | None:
    """Returns user and password in UTF-8, from the address or else from MLflow's environment variables."""
    account, _, _ = address.split(tracking_uri)
    if account:
        user, _, password = (urllib.parse.unquote(part) for part in account.partition(":"))
    else:
        user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
        if not (user and password):
            return None
    return user.encode(), password.encode()


def _why(error: requests.RequestException) -> str:
    """Returns the status that the server answered with, or the kind of error if it did not answer."""
    answer = error.response
    return type(error).__name__ if answer is None else f"{answer.status_code} {answer.reason}"
