"""This module keeps policies as MLflow models.

A model is a SavedModel, which MLflow's own TensorFlow flavor loads and serves, so it contains no code of ours:

    models:/NAME/VERSION, models:/NAME@champion
        saved_model/        the policy, and its signature.json (see `tf_marl/export.py`)
        config.gin          the settings it was trained with
        MLmodel             signature and input example of `serving_default`, requirements

A model that is sent twice is in the store once.
"""

import json
import pathlib
import shutil
import tempfile
from importlib import metadata
from typing import Any

from tf_marl.tracking import address, mlflow_store
from tf_marl.tracking.sink import SAVED_MODEL, Model

_SIGNATURE = "serving_default"


def send(client: Any, experiment_id: str | None, run_id: str | None, model: Model) -> None:
    """Logs a model to its run and registers it. Steps that are done already are skipped.

    Args:
        client: an `mlflow.MlflowClient` of the store.
        experiment_id: MLflow's id of the run's experiment.
        run_id: MLflow's id of the run that has trained the model. The run exists.
        model: the model to log. Its description is used if its name is new to the registry.
    """
    from mlflow.entities import LoggedModelOutput, Metric
    from mlflow.exceptions import MlflowException

    name, step = model.name, model.step
    run = client.get_run(run_id)
    found = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}' AND tags.step = '{step}'")
    # MLflow forbids dots in the name of a logged model, though not of a registered one.
    logged = (
        found[0]
        if found
        else client.create_logged_model(
            experiment_id, name.replace(".", "_"), run_id, {"step": str(step)}, run.data.params, "policy"
        )
    )
    outputs = run.outputs.model_outputs if run.outputs else []
    if logged.model_id not in [output.model_id for output in outputs]:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step)])
    metrics = [Metric(k, v, model.time, step, logged.model_id) for k, v in model.metrics.items()]
    client.log_batch(run_id, metrics=metrics)
    with tempfile.TemporaryDirectory() as whole:
        _write(pathlib.Path(whole), model, run_id, logged.model_id)
        client.log_model_artifacts(logged.model_id, whole)
    client.finalize_logged_model(logged.model_id, "READY")

    try:
        client.create_registered_model(name, description=model.description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # The source is a location: MLflow would look for models:/ID in the store set for this process, not in this one.
    place = logged.artifact_location
    registered = [
        version for version in client.search_model_versions(f"run_id = '{run_id}'") if version.source == place
    ]
    version = (
        registered[0]
        if registered
        else client.create_model_version(name, place, run_id, {"env_steps": str(step)}, model_id=logged.model_id)
    )
    link = json.dumps([{"name": name, "version": str(version.version)}])
    client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": link})  # for MLflow's pages


def versions(tracking_uri: str, name: str, run_id: str | None = None) -> list[int]:
    """Lists the versions of a registered model.

    Args:
        tracking_uri: address of the MLflow store.
        name: of the registered model.
        run_id: MLflow's id of a run, to list only versions that it has made; None for all.

    Returns:
        The versions in ascending order; at least one.

    Raises:
        SinkError: the address does not belong to MLflow.
        ValueError: there are no versions.
    """
    of_run = f" AND run_id = '{run_id}'" if run_id else ""
    found = mlflow_store.client(tracking_uri).search_model_versions(f"name = '{name}'{of_run}")
    if not found:
        raise ValueError(f"no version of {name} is registered" + " by this run" * bool(run_id))
    return sorted(int(version.version) for version in found)


def download(model_uri: str, tracking_uri: str, folder: pathlib.Path) -> pathlib.Path:
    """Downloads the model of a policy, unless its files are on this machine already.

    Args:
        model_uri: MLflow's URI of the model, such as `models:/NAME/VERSION`.
        tracking_uri: address of the MLflow store.
        folder: where to put downloaded files.

    Returns:
        The SavedModel's folder.

    Raises:
        SinkError: the address does not belong to MLflow.
        ValueError: the store has no such model, or the model holds no `saved_model` folder. No other kind is loaded.
    """
    uri = mlflow_store.signed_in(tracking_uri)
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(uri)  # MLflow resolves models:/ in no other store
    try:
        found = mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=str(folder))
    except (MlflowException, OSError) as error:
        # The cause is in the last line of MLflow's message.
        raise ValueError(address.without_account(" ".join(str(error).split()), tracking_uri)) from None
    saved_model = pathlib.Path(found) / SAVED_MODEL
    if not saved_model.is_dir():
        raise ValueError(f"holds no {SAVED_MODEL}/: no policy that tf_marl logged, and no other is loaded")
    return saved_model


def _write(whole: pathlib.Path, model: Model, run_id: str | None, model_id: str) -> None:
    """Writes a model to a folder in MLflow's format."""
    import numpy as np
    from mlflow import models, pyfunc
    from mlflow.types import Schema, TensorSpec

    def schema(specs: dict[str, Any]) -> Schema:
        shapes = {name: [-1 if size is None else size for size in spec["shape"]] for name, spec in specs.items()}
        return Schema([TensorSpec(np.dtype(spec["dtype"]), shapes[name], name) for name, spec in specs.items()])

    page = models.Model(run_id=run_id, model_id=model_id, model_uuid=model_id)
    # MLflow's name for SavedModels that it has not made; of these it serves a signature with named inputs.
    page.add_flavor(
        "tensorflow",
        saved_model_dir=SAVED_MODEL,
        model_type="tf1-estimator",
        meta_graph_tags=["serve"],
        signature_def_key=_SIGNATURE,
    )
    inputs = model.signature["inputs"]
    shapes = {name: [1 if size is None else size for size in spec["shape"]] for name, spec in inputs.items()}
    pyfunc.save_model(
        whole,
        loader_module="mlflow.tensorflow",
        mlflow_model=page,
        signature=models.ModelSignature(schema(inputs), schema(model.signature["outputs"])),
        # The example is one agent that observes zeros and may take every action.
        input_example={
            name: (np.ones if spec["dtype"] == "bool" else np.zeros)(shapes[name], spec["dtype"])
            for name, spec in inputs.items()
        },
        pip_requirements=[f"tensorflow=={metadata.version('tensorflow')}"],
    )
    shutil.copytree(model.folder, whole, dirs_exist_ok=True)
