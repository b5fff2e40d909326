"""Training that is stopped, killed or fails: what is saved, what is said, and how the store has it."""

import os
import signal
from typing import Any, NamedTuple

import mlflow
import pytest

EVALUATED = {"eval/battle_won_mean", "eval/return_mean", "eval/episode_length_mean"}


class Interrupted(NamedTuple):
    store: Any
    outcome: Any
    left_behind: list[str]  # in the current directory


@pytest.fixture(scope="module")
def interrupted(launch, tiny, store_in, store_of, tmp_path_factory):
    """A run, of macros, that Ctrl-C ended after its first evaluation."""
    folder = tmp_path_factory.mktemp("interrupted")
    (folder / "current").mkdir()
    store = store_of(str(folder / "root"), store_in(folder))
    steps = "--gin_bindings=train.num_env_steps = 5e8"
    outcome = launch(
        "launch.train",
        *tiny,
        steps,
        *(f"--gin_bindings={line}" for line in ("ALGORITHM = @ippo", "train.agent = %ALGORITHM")),
        *(f"--gin_bindings={line}" for line in ("MAP = '3m'", "environment.map_name = %MAP")),
        *store.flags,
        cwd=folder / "current",
        send_after=("env steps   greedy", signal.SIGINT),
    )
    return Interrupted(store, outcome, os.listdir(folder / "current"))


def test_the_configuration_tells_what_was_left_at_its_default(interrupted):
    with open(os.path.join(interrupted.store.root_dir, "config.gin")) as config:
        settings = dict(line.split(" = ", 1) for line in config.read().splitlines() if " = " in line)
    params = interrupted.store.only_run().data.params
    for name, value in {
        "train.checkpoint_every_env_steps": "50000",
        "diagnostics.full_every": "0",
        "ppo.clip_range": "0.2",
        "ppo.value_loss": "'squared'",
        "ppo.enforce": "()",
        "environment.reward_win": "200.0",
    }.items():
        assert settings[name] == params[name] == value
    assert int(settings["train.num_shards"]) > 0
    assert "ppo.seed" not in settings  # the flag's


def test_ctrl_c_ends_a_run_in_order(interrupted):
    assert interrupted.outcome.code == 130
    assert "Traceback" not in interrupted.outcome.stderr
    result = interrupted.outcome.json()
    assert result["interrupted"] is True
    assert result["env_steps"] >= 300
    assert result.keys() >= EVALUATED
    assert "all is saved, and the same command goes on" in interrupted.outcome.stdout
    run = interrupted.store.run(result["run_id"])
    assert run.info.status == "KILLED"
    assert run.data.metrics["eval/return_mean"] == result["eval/return_mean"]
    # None was made for the end, which comes at once and leaves what an uninterrupted run would have recorded.
    client = mlflow.MlflowClient(interrupted.store.tracking_uri)
    last = client.get_metric_history(result["run_id"], "eval/return_mean")[-1].step
    assert last // 300 == result["env_steps"] // 300


def test_macros_are_told_as_what_they_stand_for(interrupted):
    run = interrupted.store.only_run()
    assert run.info.run_name == "ippo_3m_seed0"
    assert (run.data.tags["algorithm"], run.data.tags["map"]) == ("ippo", "3m")
    assert (run.data.params["train.agent"], run.data.params["environment.map_name"]) == ("@ippo", "'3m'")


def test_ctrl_c_does_not_wait_for_a_replay(interrupted):
    client = mlflow.MlflowClient(interrupted.store.tracking_uri)
    names = [file.path for file in client.list_artifacts(interrupted.store.only_run().info.run_id)]
    assert names == ["config.gin", "trust_region.png"]
    assert "replay.html" not in interrupted.outcome.stdout


def test_ctrl_c_saves_what_was_learned(interrupted, warm_launch):
    env_steps = interrupted.outcome.json()["env_steps"]
    assert interrupted.store.checkpoints()[-1] == env_steps
    arguments = ("launch.evaluate", f"--root_dir={interrupted.store.root_dir}", "--episodes=2", "--json")
    assert warm_launch(*arguments).json()["env_steps"] == env_steps


@pytest.mark.slow  # as Ctrl-C, but for the exit code
def test_a_process_that_is_asked_to_terminate_saves_first(tiny, launch, store_in, store_of, tmp_path):
    store = store_of(str(tmp_path / "root"), store_in(tmp_path))
    flags = (*tiny, "--gin_bindings=train.num_env_steps = 5e8", *store.flags)
    outcome = launch("launch.train", *flags, cwd=tmp_path, send_after=("env steps   greedy", signal.SIGTERM))
    assert outcome.code == 143
    result = outcome.json()
    assert store.checkpoints()[-1] == result["env_steps"] >= 300
    assert store.only_run().info.status == "KILLED"


def stopped_once_it_had_trained(tiny, launch, store_in, store_of, folder, moment):
    """A run that SIGTERM ended at a line of its: its store, and its flags."""
    store = store_of(str(folder / "root"), store_in(folder))
    flags = (*tiny, "--gin_bindings=train.num_env_steps = 60", "--run_name=try $_$", *store.flags)
    outcome = launch("launch.train", *flags, cwd=folder, send_after=(moment, signal.SIGTERM))
    assert outcome.code == 143
    assert "Traceback" not in outcome.stderr
    assert store.only_run().info.status == "KILLED"
    return store, flags


def spoil(store, artifact):
    """Makes a folder where an artifact belongs, which cannot be written then."""
    os.makedirs(os.path.join(store.root_dir, "tracking", "artifacts", artifact))


def assert_its_model_is_champion(store):
    run = store.only_run()
    assert run.info.status == "FINISHED"
    champion = mlflow.MlflowClient(store.tracking_uri).get_model_version_by_alias("tf_marl.ippo.3m", "champion")
    assert champion.run_id == run.info.run_id


def test_a_policy_is_registered_after_sigterm_and_whatever_comes_of_plots(
    tiny, launch, warm_launch, store_in, store_of, tmp_path
):
    store, flags = stopped_once_it_had_trained(tiny, launch, store_in, store_of, tmp_path, "keeping the best policy")
    spoil(store, "trust_region.png")
    outcome = warm_launch("launch.train", *flags, "--noreplay")
    assert outcome.code == 0
    assert "warning: not among the run's artifacts: " in outcome.stderr
    assert_its_model_is_champion(store)


@pytest.mark.slow
def test_a_run_that_finished_without_registering_its_policy_makes_up_for_it(
    tiny, launch, warm_launch, store_in, store_of, tmp_path
):
    store, flags = stopped_once_it_had_trained(tiny, launch, store_in, store_of, tmp_path, "env steps   greedy")
    spoil(store, "replay.html")
    outcome = warm_launch("launch.train", *flags, "--noregister")
    assert outcome.code == 0
    assert "warning: not among the run's artifacts: " in outcome.stderr
    assert store.only_run().info.status == "FINISHED"
    assert warm_launch("launch.train", *flags).code == 0
    assert_its_model_is_champion(store)


def test_a_damaged_journal_is_named_and_what_to_do_about_it(tiny, store_in, store_of, tmp_path, warm_launch):
    store = store_of(str(tmp_path / "root"), store_in(tmp_path))
    os.makedirs(os.path.join(store.root_dir, "tracking"))
    with open(os.path.join(store.root_dir, "tracking", "journal.jsonl"), "w"):
        pass
    outcome = warm_launch("launch.train", *tiny, *store.flags)
    assert outcome.code == 2
    folder = f"{store.root_dir}/tracking"
    error = outcome.stderr.splitlines()[-1]
    assert error.startswith(f"error: --root_dir={store.root_dir}: {folder}/journal.jsonl, line 1: ")
    assert f"move {folder} elsewhere, and the same command goes on" in error


def test_a_crash_marks_the_run_failed_with_its_reason(tiny, store_in, store_of, tmp_path, warm_launch):
    store = store_of(str(tmp_path / "root"), store_in(tmp_path))
    # A folder where a file belongs: the run fails once it has begun.
    os.makedirs(os.path.join(store.root_dir, "config.gin"))
    outcome = warm_launch("launch.train", *tiny, *store.flags)
    assert outcome.code == 1
    assert "Traceback" not in outcome.stderr
    assert "config.gin" in outcome.stderr.splitlines()[-1]
    run = store.only_run()
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("IsADirectoryError: ")
    assert "config.gin" in run.data.tags["error"]
