"""Policies in MLflow's registry of models."""

import json
import shutil

import mlflow
import pytest

from tf_marl import tracking


@pytest.fixture(params=["sqlite_store", "mlflow_server"])
def store(request):
    return request.getfixturevalue(request.param)


def test_a_policy_becomes_a_model_of_its_run_and_a_version_of_its_name(
    store, start_run, policy, keep_policy, tmp_path, history
):
    tracker = start_run(store, experiment="models")
    keep_policy(tracker, 600, 0.75)
    keep_policy(tracker, 600, 0.5)  # by a run that went on
    keep_policy(tracker, 900, 0.875)
    shutil.rmtree(policy)
    assert tracker.finish("FINISHED") is None

    first, second = tracking.versions(store, "tf_marl.ippo.3m", tracker.run_id)
    assert second > first
    client = mlflow.MlflowClient(store)
    run = client.get_run(tracker.run_id)
    outputs = {output.step: output.model_id for output in run.outputs.model_outputs}
    assert sorted(outputs) == [600, 900]
    assert history(store, tracker.run_id, "model/battle_won_mean") == [(600, 0.75), (900, 0.875)]
    version = client.get_model_version("tf_marl.ippo.3m", str(first))
    assert version.tags == {"env_steps": "600"}
    logged = client.get_logged_model(outputs[600])
    assert version.source == logged.artifact_location
    assert logged.status == "READY"
    assert {metric.key: metric.value for metric in logged.metrics} == {"model/battle_won_mean": 0.75}
    assert logged.params == {"ippo.gamma": "0.99"}
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "tf_marl.ippo.3m", "version": str(first)}]
    assert client.get_registered_model("tf_marl.ippo.3m").description == "ippo on 3m"

    model = tracking.download(f"models:/tf_marl.ippo.3m/{first}", store, tmp_path).parent
    files = {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()}
    assert {"MLmodel", "saved_model/saved_model.pb", "config.gin", "requirements.txt"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".py"))]
    meta = mlflow.models.Model.load(str(model))
    assert (meta.model_id, meta.run_id) == (logged.model_id, tracker.run_id)
    assert {spec.name: (spec.type.name, spec.shape) for spec in meta.signature.inputs} == {
        "obs": ("float32", (-1, 5)),
        "avail_actions": ("bool", (-1, 2)),
    }
    example = meta.load_input_example(str(model))
    assert example["avail_actions"].all()
    assert not example["obs"].any()


def test_a_model_whose_answers_were_lost_is_there_once(sqlite_store, start_run, keep_policy, monkeypatch, history):
    failed = set()

    def losing(method):
        honest = getattr(mlflow.MlflowClient, method)

        def lose(client, *arguments, **options):
            answer = honest(client, *arguments, **options)
            if method not in failed:
                failed.add(method)
                raise ConnectionError("the answer was lost")
            return answer

        return lose

    methods = {"create_logged_model", "log_outputs", "create_registered_model", "create_model_version"}
    for method in methods:
        monkeypatch.setattr(mlflow.MlflowClient, method, losing(method))
    tracker = start_run(sqlite_store)
    keep_policy(tracker, 600, 0.75)
    assert tracker.finish("FINISHED") is None
    assert failed == methods
    assert tracking.versions(sqlite_store, "tf_marl.ippo.3m") == [1]
    client = mlflow.MlflowClient(sqlite_store)
    assert len(client.search_logged_models([tracker.experiment_id])) == 1
    assert len(client.get_run(tracker.run_id).outputs.model_outputs) == 1
    assert len(history(sqlite_store, tracker.run_id, "model/battle_won_mean")) == 1


def test_no_model_but_ours_is_downloaded(sqlite_store, tmp_path):
    with pytest.raises(ValueError, match=r"tf_marl.ippo.3m"):
        tracking.download("models:/tf_marl.ippo.3m@champion", sqlite_store, tmp_path)
    with pytest.raises(ValueError, match=r"no version of tf_marl.ippo.3m"):
        tracking.versions(sqlite_store, "tf_marl.ippo.3m")
    with pytest.raises(ValueError, match=r"^.*No such artifact: 'nowhere'$"):
        tracking.download("nowhere", sqlite_store, tmp_path)
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "python_model.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match="no other is loaded"):
        tracking.download((tmp_path / "pickled").as_uri(), sqlite_store, tmp_path / "to")


def test_a_sink_without_a_registry_says_so(tmp_path):
    address = f"folder:{tmp_path}"
    assert not tracking.is_mlflow(address)
    for ask in (
        lambda: tracking.versions(address, "tf_marl.ippo.3m"),
        lambda: tracking.client(address),
        lambda: tracking.download("models:/tf_marl.ippo.3m/1", address, tmp_path),
    ):
        with pytest.raises(tracking.SinkError, match=f"^{address} has no registry of models; name an MLflow store$"):
            ask()
