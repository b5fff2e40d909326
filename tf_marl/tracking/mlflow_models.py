"""Policies as MLflow models: a SavedModel, which MLflow's own TensorFlow flavor loads and serves, and no code at all.

    models:/NAME/VERSION, models:/NAME@champion
        saved_model/        the policy, and its signature.json (see `tf_marl/export.py`)
        config.gin          the settings it was trained with
        MLmodel             signature and input example of `serving_default`, requirements

What is sent may be sent again without a trace, as everything here.
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
    """Logs a model to its run and registers it, as far as that is not done.

    Args:
        client: of the store.
        experiment_id: of the run.
        run_id: of the run that it is an output of; there by now, as its journal starts with it.
        model: to log; its description is for a name that is new.
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
    # By its place: MLflow would look for models:/ID in the store that the process has set, not in this one.
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
    """The versions of a registered model, ascending; those that a run made if one is given.

    Raises:
        SinkError: the address is none of MLflow's.
        ValueError: there are none.
    """
    of_run = f" AND run_id = '{run_id}'" if run_id else ""
    found = mlflow_store.client(tracking_uri).search_model_versions(f"name = '{name}'{of_run}")
    if not found:
        raise ValueError(f"no version of {name} is registered" + " by this run" * bool(run_id))
    return sorted(int(version.version) for version in found)


def download(model_uri: str, tracking_uri: str, folder: pathlib.Path) -> pathlib.Path:
    """Fetches a policy's model, where it is not at hand, into `folder`. Returns the SavedModel's folder.

    Raises:
        SinkError: the address is none of MLflow's.
        ValueError: the store has no such model, or it is none of ours: only SavedModels are loaded.
    """
    uri = mlflow_store.signed_in(tracking_uri)
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(uri)  # MLflow resolves models:/ in no other store
    try:
        found = mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=str(folder))
    except (MlflowException, OSError) as error:
        # MLflow tells the cause in its last line.
        raise ValueError(address.without_account(" ".join(str(error).split()), tracking_uri)) from None
    saved_model = pathlib.Path(found) / SAVED_MODEL
    if not saved_model.is_dir():
        raise ValueError(f"holds no {SAVED_MODEL}/: no policy that tf_marl logged, and no other is loaded")
    return saved_model


def _write(whole: pathlib.Path, model: Model, run_id: str | None, model_id: str) -> None:
    """Makes a model in MLflow's form."""
    import numpy as np
    from mlflow import models, pyfunc
    from mlflow.types import Schema, TensorSpec

    def schema(specs: dict[str, Any]) -> Schema:
        shapes = {name: [-1 if size is None else size for size in spec["shape"]] for name, spec in specs.items()}
        return Schema([TensorSpec(np.dtype(spec["dtype"]), shapes[name], name) for name, spec in specs.items()])

    page = models.Model(run_id=run_id, model_id=model_id, model_uuid=model_id)
    # What MLflow calls SavedModels that it did not make; of these it serves a signature with inputs by name.
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
        # Of one agent that sees nothing and may do everything.
        input_example={
            name: (np.ones if spec["dtype"] == "bool" else np.zeros)(shapes[name], spec["dtype"])
            for name, spec in inputs.items()
        },
        pip_requirements=[f"tensorflow=={metadata.version('tensorflow')}"],
    )
    shutil.copytree(model.folder, whole, dirs_exist_ok=True)
