"""This module keeps runs in MLflow, in a local database or on a server.

An event may come twice, and the second time changes nothing. `start` looks for a run with the same mark before it
creates one, and notes the metrics that this run has; `record` leaves these out. MLflow's stores keep metrics that are
equal in name, step, time and value as one row. Params and tags are set to the same values, and artifacts overwritten.
"""

import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import requests

from tf_marl.tracking import address, mlflow_models, mlflow_store, server
from tf_marl.tracking.sink import MARK, Metrics, Model, Sink, SinkError

_METRICS_PER_BATCH = 1000  # MLflow's limits
_PARAMS_PER_BATCH = 100


class MLflowSink(Sink):
    """Keeps one run in an MLflow store: a database, a server, or any other address that MLflow knows."""

    system_metrics = True  # MLflow's pages show them

    def __init__(self, tracking_uri: str):
        super().__init__(mlflow_store.signed_in(tracking_uri))
        self._given = tracking_uri  # with user and password, which no message may show
        self._there: set[tuple[str, int]] = set()  # (metric, step) that the run had before `start` was called again

    def check_reachable(self) -> None:
        """Checks that an MLflow server answers at an HTTP address; other addresses are not checked.

        Raises:
            SinkError: no MLflow server answers within three seconds.
        """
        if self.address.startswith(("http://", "https://")):
            server.check_health(self.address)

    def prepare(self, experiment: str, parent_run_id: str | None) -> dict[str, str]:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking.context import registry

        try:
            found = mlflow_store.client(self.address).get_experiment_by_name(experiment)
        except (MlflowException, OSError) as error:
            why = address.without_account(str(error), self._given)
            store = address.shown(self.address)
            raise SinkError(f"{store}: mend what follows or name another store: {why}") from None
        if found and found.lifecycle_stage != "active":
            raise SinkError(f"experiment {experiment} was deleted; restore it, or name another one")
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")  # which MLflow would tell everyone
        tags = {name: value for name, value in registry.resolve_tags().items() if value != user}
        return tags | ({"mlflow.parentRunId": parent_run_id} if parent_run_id else {})

    def start(self, experiment: str, run_name: str, params: dict[str, str], tags: dict[str, str], time: int) -> None:
        from mlflow.entities import Param

        found = self._client.get_experiment_by_name(experiment)
        # The kind makes MLflow's pages open on training runs, not on its tools for language models.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        self.experiment_id = (
            found.experiment_id
            if found
            else self._client.create_experiment(experiment, mlflow_store.artifact_location(self.address), kind)
        )
        runs = self._client.search_runs([self.experiment_id], f"tags.`{MARK}` = '{tags[MARK]}'", max_results=1)
        run = runs[0] if runs else self._client.create_run(self.experiment_id, time, tags, run_name)
        self.run_id = run.info.run_id
        self._there = {
            (metric, row.step)
            for metric in run.data.metrics
            for row in self._client.get_metric_history(self.run_id, metric)
        }
        self._log("params", [Param(*item) for item in params.items()], _PARAMS_PER_BATCH)

    def resume(self, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.update_run(self.run_id, status="RUNNING")  # a deleted run refuses, until it is restored
        if "error" in self._client.get_run(self.run_id).data.tags:
            self._client.delete_tag(self.run_id, "error")
        self._log("tags", [RunTag(*item) for item in tags.items()], _PARAMS_PER_BATCH)

    def record(self, rows: Sequence[Metrics]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, row.time, row.step) for row in rows for name, value in row.values.items()]
        new = [metric for metric in metrics if (metric.key, metric.step) not in self._there]
        self._log("metrics", new, _METRICS_PER_BATCH)

    def artifact(self, name: str, path: pathlib.Path) -> None:
        into, _, _ = name.rpartition("/")
        self._client.log_artifact(self.run_id, str(path), into or None)

    def model(self, model: Model) -> None:
        mlflow_models.send(self._client, self.experiment_id, self.run_id, model)

    def finish(self, status: str, error: str | None, time: int) -> None:
        if error is not None:
            self._client.set_tag(self.run_id, "error", error)
        self._client.set_terminated(self.run_id, status, time)

    def page(self) -> str | None:
        if self.run_id is None:
            return None
        store = address.shown(self.address)
        served = self.address.startswith(("http://", "https://"))
        server = store.rstrip("/") if served else f"mlflow ui --backend-store-uri {store}, then http://127.0.0.1:5000"
        return f"{server}/#/experiments/{self.experiment_id}/runs/{self.run_id}"

    def lost(self, error: Exception) -> bool:
        return getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"

    def refuses(self, error: Exception) -> bool:
        """Returns whether MLflow says that the request itself is wrong, or a file is missing or too large."""
        if isinstance(error, requests.HTTPError) and error.response is not None:
            return error.response.status_code in (400, 413)
        if getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE":
            return "must be in the 'active' state" not in str(error)  # a deleted run can be restored
        return super().refuses(error)

    @functools.cached_property
    def _client(self) -> Any:
        return mlflow_store.client(self.address)

    def _log(self, kind: str, items: list[Any], size: int) -> None:
        """Logs params, tags or metrics, at most `size` at once, and halves refused batches until valid items get in."""
        for i in range(0, len(items), size):
            batch = items[i : i + size]
            if len(batch) > 1:
                try:
                    self._client.log_batch(self.run_id, **{kind: batch})
                except Exception as error:
                    if not self.refuses(error):
                        raise
                    self._log(kind, batch, (len(batch) + 1) // 2)
            else:
                with self.passing_over_what_is_refused():
                    self._client.log_batch(self.run_id, **{kind: batch})
