"""Training as a user starts it, stops it, resumes it and looks at it afterwards."""

import fcntl
import os
import re
import shutil
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import mlflow
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tf_marl import places

EVALUATED = {"eval/battle_won_mean", "eval/return_mean", "eval/episode_length_mean"}
MEASURED_EVERY_UPDATE = {
    *("train/env_steps_per_second", "loss/policy", "loss/value", "loss/entropy"),
    *(f"trust_region/{name}" for name in ("ratio_min", "ratio_max", "clip_fraction", "kl_mean", "epsilon")),
    *(f"trust_region/{name}" for name in ("agent_tv_max", "agent_tv_mean", "joint_tv_sum_max", "joint_tv_sum_mean")),
    *(f"trust_region/{name}" for name in ("joint_tv_product_max", "joint_tv_product_mean", "joint_tv_max", "alpha")),
    *(f"trust_region/joint_tv_{name}_max" for name in ("hellinger", "pinsker", "upper")),
    *(f"certificate/{name}" for name in ("joint_surrogate", "penalty", "lower_bound", "certified", "vacuous")),
    *(f"certificate/{name}" for name in ("surrogate", "independent_lower_bound", "sequential_surrogate_min")),
    *(f"certificate/{name}" for name in ("alpha_shrink", "penalty_mappo", "penalty_happo", "penalty_a2po")),
}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
MEASURED_AS_EPISODES_END = {"train/return_mean", "train/battle_won_mean"}


class Finished(NamedTuple):
    store: Any
    outcome: Any
    left_behind: list[str]  # in the current directory


@pytest.fixture(scope="module")
def finished(launch, tiny, store_of, tmp_path_factory):
    """A tiny run that went well, where the locale knows nothing but ASCII."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "current").mkdir()
    store = store_of(str(folder / "root"), f"sqlite:///{folder}/mlflow.db")
    steps = "--gin_bindings=train.num_env_steps = 600"
    full = "--gin_bindings=diagnostics.full_every = 8"
    shards = "--gin_bindings=train.num_shards = 1"  # other than a run has by default, where there are cores
    flags = (*tiny, steps, full, shards, "--seed=3", *store.flags)
    outcome = launch("launch.train", *flags, cwd=folder / "current", env=ASCII)
    return Finished(store, outcome, os.listdir(folder / "current"))


def test_training_ends_well_with_its_result_as_json(finished):
    assert finished.outcome.code == 0
    result = finished.outcome.json()
    assert result["root_dir"] == finished.store.root_dir
    assert 600 <= result["env_steps"] < 600 + 4 * 8  # at most one rollout beyond
    assert result["interrupted"] is False
    assert 0 <= result["eval/battle_won_mean"] <= 1
    assert 0 <= result["eval/return_mean"] <= 20
    assert 0 < result["eval/episode_length_mean"] <= 60
    assert finished.store.run(result["run_id"]).info.status == "FINISHED"


def test_training_tells_its_user_where_to_look(finished):
    assert finished.store.only_run().info.run_id in finished.outcome.stdout
    assert f"tf-marl evaluate --root_dir={finished.store.root_dir}" in finished.outcome.stdout


def test_training_is_quiet_but_for_its_own_lines(finished, noise):
    stderr = finished.outcome.stderr
    assert not noise.search(stderr)
    loading, *evaluations, keeping = stderr.strip().splitlines()
    assert loading == "loading TensorFlow ..."
    assert keeping == "keeping the best policy ..."
    assert evaluations
    assert all("env steps   greedy: won" in line for line in evaluations)
    # What clip 0.2 allows for where one to three agents live: 0.1, 1/2 sqrt(1.04^2 - 1), 1/2 sqrt(1.04^3 - 1).
    assert all(re.search(r"joint TV 0\.\d\d \(alpha 0\.(1|14|18)\)$", line) for line in evaluations)


def test_training_leaves_nothing_in_the_current_directory(finished):
    assert finished.left_behind == []


def test_params_are_the_flat_gin_configuration(finished):
    params = finished.store.only_run().data.params
    assert params["train.num_env_steps"] == "600"
    assert params["train.rollout_steps"] == "8"
    assert params["train.agent"] == "@ippo"
    assert params["environment.map_name"] == "'3m'"
    assert params["environment.num_envs"] == "4"
    assert params["ppo.gamma"] == "0.99"
    assert params["ppo.hidden"] == "(16,)"


def test_tags_tell_what_ran(finished):
    tags = finished.store.only_run().data.tags
    assert {name: tags[name] for name in ("algorithm", "map", "backend", "seed")} == {
        "algorithm": "ippo",
        "map": "3m",
        "backend": "combat",
        "seed": "3",
    }
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", tags["git_commit"])
    assert tags["version.mlflow"] == mlflow.__version__
    assert tags["version.tensorflow"].startswith("2.")


def test_metrics_are_recorded_at_env_steps(finished):
    client = mlflow.MlflowClient(finished.store.tracking_uri)
    run = finished.store.only_run()
    assert run.data.metrics.keys() >= EVALUATED | MEASURED_EVERY_UPDATE | MEASURED_AS_EPISODES_END
    env_steps = finished.outcome.json()["env_steps"]

    def steps(name):
        return [metric.step for metric in client.get_metric_history(run.info.run_id, name)]

    updates = steps("loss/policy")
    assert updates[-1] == env_steps
    assert all(0 < after - before <= 4 * 8 for before, after in zip([0, *updates], updates, strict=False))
    assert {name: steps(name) for name in MEASURED_EVERY_UPDATE} == dict.fromkeys(MEASURED_EVERY_UPDATE, updates)
    evaluations = steps("eval/return_mean")
    assert [step // 300 for step in evaluations] == [1, 2]
    assert {name: steps(name) for name in EVALUATED} == dict.fromkeys(EVALUATED, evaluations)
    assert all(set(steps(name)) <= set(updates) for name in MEASURED_AS_EPISODES_END)


def test_the_last_evaluation_is_the_result(finished):
    metrics = finished.store.only_run().data.metrics
    result = finished.outcome.json()
    assert {name: metrics[name] for name in EVALUATED} == {name: result[name] for name in EVALUATED}


def test_the_configuration_is_kept_in_root_dir_and_among_the_artifacts(finished):
    client = mlflow.MlflowClient(finished.store.tracking_uri)
    artifact = client.download_artifacts(finished.store.only_run().info.run_id, "config.gin")
    with open(artifact) as kept, open(os.path.join(finished.store.root_dir, "config.gin")) as config:
        text = config.read()
        assert kept.read() == text
    assert "train.num_env_steps = 600\n" in text
    assert max(map(len, text.splitlines())) <= 120


def test_battles_of_the_best_policy_are_logged_to_watch(finished):
    client = mlflow.MlflowClient(finished.store.tracking_uri)
    run_id = finished.store.only_run().info.run_id
    with open(client.download_artifacts(run_id, "replay.html")) as file:
        page = file.read()
    won, returns = (
        [(metric.step, metric.value) for metric in client.get_metric_history(run_id, f"eval/{name}_mean")]
        for name in ("battle_won", "return")
    )
    *_, step = max((rate, total, step) for (step, rate), (_, total) in zip(won, returns, strict=True))
    assert f'"title":"the best policy, after {step} env steps"' in page
    assert page.count('"outcome":') == 4
    assert "watch     replay.html" in finished.outcome.stdout


def test_the_trust_region_is_logged_as_a_plot_and_in_full_where_asked_for(finished):
    client = mlflow.MlflowClient(finished.store.tracking_uri)
    run_id = finished.store.only_run().info.run_id
    with open(client.download_artifacts(run_id, "trust_region.png"), "rb") as file:
        assert file.read(4) == b"\x89PNG"
    kept = [file.path for file in client.list_artifacts(run_id, "trust_region")]
    updates = [metric.step for metric in client.get_metric_history(run_id, "trust_region/joint_tv_sum_max")]
    assert kept == [f"trust_region/{step:09}.{kind}" for step in updates[::8] for kind in ("csv", "png")]
    table = pd.read_csv(client.download_artifacts(run_id, kept[0]))
    assert list(table.epoch) == [0, 1, 2, 3, 4]
    largest = client.get_metric_history(run_id, "trust_region/joint_tv_sum_max")[0].value
    assert table.joint_tv_sum_p100.iloc[-1] == pytest.approx(largest, rel=1e-4)
    ordered = table[["joint_tv_lower_p100", "joint_tv_p100", "joint_tv_product_p100", "joint_tv_sum_p100"]].to_numpy()
    assert (np.diff(ordered, axis=1) >= -1e-6).all()


def test_evaluate_plays_the_trained_team_and_shows_it(finished, warm_launch, tmp_path):
    file = tmp_path / "new" / "battles.html"
    arguments = ("launch.evaluate", f"--root_dir={finished.store.root_dir}", "--episodes=10", "--json")
    outcome = warm_launch(*arguments, f"--replay={file}")
    result = outcome.json()
    assert f"the first 8 of them to watch: {file}" in outcome.stdout
    assert file.read_text().count('"outcome":') == 8
    assert result["episodes"] == 10
    assert result["env_steps"] == finished.outcome.json()["env_steps"]
    assert result["battle_won_mean"] * 10 == pytest.approx(round(result["battle_won_mean"] * 10))
    assert 0 < result["episode_length_mean"] <= 60


def test_evaluate_has_the_trained_team_meet_enemies_that_it_never_met(finished, warm_launch, tmp_path):
    file = tmp_path / "battles.html"
    flags = (f"--root_dir={finished.store.root_dir}", "--enemies=kite", f"--replay={file}", "--episodes=2", "--json")
    outcome = warm_launch("launch.evaluate", *flags)
    result = outcome.json()
    assert [row["enemy"] for row in result["enemies"]] == ["kite"]
    assert result["env_steps"] == finished.outcome.json()["env_steps"]
    assert ", against kite" in file.read_text()


def test_the_best_policy_is_registered_and_decides_as_when_it_was_trained(finished, warm_launch, monkeypatch, tmp_path):
    """MLflow loads and serves what `launch.evaluate` plays."""
    uri = finished.store.tracking_uri
    version = mlflow.MlflowClient(uri).get_model_version_by_alias("tf_marl.ippo.3m", "champion")
    assert version.run_id == finished.outcome.json()["run_id"]
    assert "tf_marl.ippo.3m: version 1 is the champion" in finished.outcome.stdout
    run = finished.store.run(version.run_id)
    assert run.data.metrics["model/battle_won_mean"] * 320 == pytest.approx(
        round(run.data.metrics["model/battle_won_mean"] * 320)
    )
    played = warm_launch(
        "launch.evaluate", "--model_uri=models:/tf_marl.ippo.3m@champion", f"--tracking_uri={uri}", "--json"
    ).json()
    assert (played["algorithm"], played["map"]) == ("ippo", "3m")
    assert played["env_steps"] == int(version.tags["env_steps"])
    of_run = warm_launch("launch.evaluate", f"--root_dir={finished.store.root_dir}", "--best", "--json").json()
    assert of_run["battle_won_mean"] == played["battle_won_mean"]
    assert of_run["env_steps"] == played["env_steps"]

    exported = warm_launch(
        "launch.export", f"--root_dir={finished.store.root_dir}", f"--out={tmp_path}", "--json"
    ).json()
    of_export = warm_launch("launch.evaluate", f"--saved_model={exported['saved_model']}", "--json").json()
    assert of_export == played
    refused = warm_launch("launch.evaluate", f"--saved_model={tmp_path}")
    assert (refused.code, refused.stdout) == (2, "")
    assert f"--saved_model={tmp_path}: holds no signature.json" in refused.stderr

    inputs = {
        "obs": np.random.default_rng(0).normal(size=(64, 30)).astype(np.float32),
        "avail_actions": np.ones([64, 9], bool),
        "agent_index": np.arange(64, dtype=np.int32) % 3,
    }
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    served = mlflow.pyfunc.load_model("models:/tf_marl.ippo.3m@champion").predict(inputs)
    decide = tf.saved_model.load(exported["saved_model"]).signatures["serving_default"]
    local = decide(**{name: tf.constant(value) for name, value in inputs.items()})
    assert served["action"] == local["action"].numpy().tolist()
    np.testing.assert_allclose(served["probabilities"], local["probabilities"], rtol=1e-5, atol=1e-7)


def test_export_makes_versions_of_the_best_and_of_the_newest_policy(finished, warm_launch, noise, tmp_path):
    arguments = ("launch.export", f"--root_dir={finished.store.root_dir}", f"--out={tmp_path}", "--json")
    outcome = warm_launch(*arguments)
    best = outcome.json()
    assert not noise.search(outcome.stderr)
    assert outcome.stderr == ""
    assert (best["algorithm"], best["map"], best["best"]) == ("ippo", "3m", True)
    assert best["saved_model"] == str(tmp_path / str(best["env_steps"]))
    assert (tmp_path / str(best["env_steps"]) / "saved_model.pb").is_file()
    assert (tmp_path / "policy_saver" / str(best["env_steps"]) / "saved_model.pb").is_file()
    again = warm_launch(*arguments)
    assert again.code == 2
    assert "is there already; add --overwrite" in again.stderr
    newest = warm_launch(*arguments, "--nobest", "--overwrite").json()
    assert newest["env_steps"] == finished.outcome.json()["env_steps"]


def test_export_to_a_full_disk_is_refused_and_leaves_nothing(finished, warm_launch, small_disk):
    (small_disk / "brim").write_bytes(bytes(1850 << 10))  # leaves 198 KiB: enough to begin with
    outcome = warm_launch("launch.export", f"--root_dir={finished.store.root_dir}", f"--out={small_disk}/out")
    assert outcome.code == 2
    assert re.search(r"^error: --out=.*: cannot write there \(.*No space left on device.*\); name", outcome.stderr)
    assert "Traceback" not in outcome.stderr
    assert list((small_disk / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("which", "lacks"), [("--best", "nothing was evaluated yet"), ("--nobest", "holds no checkpoint yet")]
)
def test_export_of_a_run_without_a_checkpoint_is_refused(which, lacks, finished, warm_launch, tmp_path):
    shutil.copy(os.path.join(finished.store.root_dir, "config.gin"), tmp_path)
    outcome = warm_launch("launch.export", f"--root_dir={tmp_path}", f"--out={tmp_path}/out", which)
    assert outcome.code == 2
    assert lacks in outcome.stderr


def again(finished, tiny, warm_launch, *flags):
    """Starts a finished run's command once more, with further flags."""
    steps = "--gin_bindings=train.num_env_steps = 600"
    full = "--gin_bindings=diagnostics.full_every = 8"
    return warm_launch("launch.train", *tiny, steps, full, "--seed=3", *finished.store.flags, *flags)


def test_a_second_start_of_a_finished_run_only_sees_to_a_champion(finished, tiny, warm_launch):
    client = mlflow.MlflowClient(finished.store.tracking_uri)
    client.delete_registered_model_alias("tf_marl.ippo.3m", "champion")  # as if the first had been killed before it
    before = finished.store.checkpoints()
    outcome = again(finished, tiny, warm_launch)
    assert outcome.code == 0
    assert outcome.json()["run_id"] == finished.outcome.json()["run_id"]
    assert "has finished its " in outcome.stdout
    assert finished.store.checkpoints() == before
    assert finished.store.only_run().info.status == "FINISHED"
    assert client.get_model_version_by_alias("tf_marl.ippo.3m", "champion").version == 1


@pytest.mark.parametrize(
    ("flag", "difference"),
    [
        ("--gin_bindings=ppo.gamma = 0.9", "ppo.gamma = 0.9 (was 0.99)"),
        ("--seed=4", "seed = 4 (was 3)"),
        ("--gin_bindings=train.num_shards = 4", "train.num_shards = 4 (was "),
    ],
)
def test_a_second_start_with_other_settings_names_them_and_changes_nothing(
    flag, difference, finished, tiny, warm_launch
):
    before = finished.store.checkpoints()
    outcome = again(finished, tiny, warm_launch, flag)
    assert outcome.code == 2
    line = outcome.stderr.splitlines()[-1]
    assert line.startswith(f"error: --root_dir={finished.store.root_dir}: its run began with other settings: ")
    assert difference in line
    assert line.count("(was ") == 1
    assert "--allow_config_change" in line
    assert finished.store.checkpoints() == before
    assert finished.store.only_run().info.status == "FINISHED"
    with open(os.path.join(finished.store.root_dir, "config.gin")) as config:
        assert "ppo.gamma = 0.99\n" in config.read()


def rewrite(finished, change) -> str:
    """Changes the configuration that a run has written down; returns what it was."""
    path = os.path.join(finished.store.root_dir, "config.gin")
    with open(path) as config:
        text = config.read()
    with open(path, "w") as config:
        config.write(change(text))
    return text


def test_a_second_start_goes_on_in_as_many_shards_as_the_first(finished, tiny, warm_launch):
    outcome = again(finished, tiny, warm_launch)  # which says nothing of shards
    assert outcome.code == 0
    with open(os.path.join(finished.store.root_dir, "config.gin")) as config:
        assert "train.num_shards = 1\n" in config.read()


def test_a_default_that_changed_since_the_first_start_is_named(finished, tiny, warm_launch):
    was = rewrite(finished, lambda text: text.replace("value_coefficient = 0.5", "value_coefficient = 0.25"))
    outcome = again(finished, tiny, warm_launch)
    assert outcome.code == 2
    assert "began with other settings: ppo.value_coefficient = 0.5 (was 0.25);" in outcome.stderr
    rewrite(finished, lambda text: was)


def test_a_run_that_told_nothing_of_its_defaults_goes_on(finished, tiny, warm_launch):
    """As those did that began before they were written down."""

    def without_defaults(text):
        lines = text.partition("# Left at their defaults:")[0].splitlines(keepends=True)
        return "".join(line for line in lines if not re.match(r"train\.(num_shards|max_checkpoints)", line))

    was = rewrite(finished, without_defaults)
    shards = "--gin_bindings=train.num_shards = {}".format
    assert again(finished, tiny, warm_launch, shards(1)).code == 0
    outcome = again(finished, tiny, warm_launch, shards(1), "--gin_bindings=ppo.value_coefficient = 0.25")
    assert "began with other settings: ppo.value_coefficient = 0.25 (was unset);" in outcome.stderr
    outcome = again(finished, tiny, warm_launch, shards(4))  # as on a machine that has four cores
    assert outcome.code == 2
    assert "if it began on another number of cores, set train.num_shards to that;" in outcome.stderr
    rewrite(finished, lambda text: was)


def test_a_second_start_refuses_networks_that_do_not_fit_the_checkpoint(finished, tiny, warm_launch):
    outcome = again(finished, tiny, warm_launch, "--gin_bindings=ppo.hidden = (8,)", "--allow_config_change")
    assert outcome.code == 2
    assert f"error: --root_dir={finished.store.root_dir}: its checkpoint does not suit these" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_second_start_may_be_allowed_to_train_for_longer(finished, tiny, warm_launch):
    before = finished.outcome.json()["env_steps"]
    longer = "--gin_bindings=train.num_env_steps = 700"
    flags = ("--allow_config_change", "--noreplay", "--noregister")
    outcome = again(finished, tiny, warm_launch, longer, *flags)
    result = outcome.json()
    assert f"resuming {finished.store.root_dir} at {before} env steps" in outcome.stderr
    assert 700 <= result["env_steps"] < 700 + 4 * 8
    assert finished.store.checkpoints()[-1] == result["env_steps"]
    assert result["run_id"] == finished.outcome.json()["run_id"]
    run = finished.store.only_run()
    assert run.info.status == "FINISHED"
    assert run.data.tags["changed.train.num_env_steps"] == "700"
    client = mlflow.MlflowClient(finished.store.tracking_uri)
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "loss/policy")]
    assert steps == sorted(set(steps))
    assert steps[-1] == result["env_steps"]


@hypothesis.given(name=st.text(max_size=300))
@hypothesis.example("../../../x")
@hypothesis.example("/etc")
def test_a_run_s_folder_is_beside_the_others_whatever_its_name(name):
    folder = places.new_run_folder(name)
    assert folder.parent == places.STORE_FOLDER / "runs"
    assert folder.resolve() == folder
    assert len(folder.name.encode()) < 255


def test_two_processes_do_not_train_in_one_folder(finished, tiny, warm_launch):
    with open(os.path.join(finished.store.root_dir, ".lock"), "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write("4321")
        lock.flush()
        outcome = again(finished, tiny, warm_launch)
    assert outcome.code == 2
    assert f"error: --root_dir={finished.store.root_dir}: process 4321 trains there" in outcome.stderr


@pytest.mark.slow  # compiles all there is
def test_a_recurrent_joint_ratio_team_with_a_rule_for_its_clip_range_trains(
    tiny, warm_launch, store_in, store_of, tmp_path
):
    store = store_of(str(tmp_path / "root"), store_in(tmp_path))
    rules = ("ppo.clip_range = @linear()", "linear.rule = @per_agent()", "per_agent.alpha = 0.6")
    sizes = ("ppo.rnn_units = 8", "ppo.hidden = (8,)", "ppo.num_epochs = 1", "train.num_env_steps = 60")
    bindings = [f"--gin_bindings={binding}" for binding in (*rules, *sizes)]
    result = warm_launch("launch.train", *tiny, "--gin_file=jr_ppo_rnn.gin", *bindings, *store.flags).json()
    run = store.only_run()
    assert run.data.tags["algorithm"] == "jr_ppo"
    history = mlflow.MlflowClient(store.tracking_uri).get_metric_history(result["run_id"], "trust_region/epsilon")
    # alpha / N = 0.6 / 3, scaled by what is left of 60 env steps when an update of 32 begins
    assert [metric.value for metric in history] == pytest.approx([0.2, 0.2 * (1 - history[0].step / 60)], rel=1e-5)
    played = warm_launch("launch.evaluate", f"--root_dir={store.root_dir}", "--episodes=4", "--json").json()
    assert played["env_steps"] == result["env_steps"]
