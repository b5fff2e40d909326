"""Learners, worlds and sinks of one's own go through every command, and none of those was told of them."""

import json
import pathlib

import pytest

HERE = str(pathlib.Path(__file__).parent)


@pytest.fixture(scope="module")
def reinforced(launch, tmp_path_factory):
    """A run of the second learner, on 3m, broken off halfway and taken up again; its folder and where it was kept."""
    folder = tmp_path_factory.mktemp("reinforced")
    flags = [
        "--gin_file=reinforce.gin",
        "--gin_file=maps/3m.gin",
        "--gin_bindings=environment.num_envs = 4",
        "--gin_bindings=train.rollout_steps = 8",
        "--gin_bindings=train.eval_every_env_steps = 300",
        "--gin_bindings=train.eval_episodes = 2",
        "--gin_bindings=reinforce.hidden = (16,)",
        f"--root_dir={folder}/run",
        f"--tracking_uri=folder:{folder}/kept",
        "--json",
    ]
    half = launch("launch.train", *flags, "--gin_bindings=train.num_env_steps = 300", cwd=folder)
    assert half.code == 0, half.stderr
    longer = ("--gin_bindings=train.num_env_steps = 600", "--allow_config_change")
    whole = launch("launch.train", *flags, *longer, cwd=folder)
    assert whole.code == 0, whole.stderr
    assert "resuming" in whole.stderr
    return folder, whole


def test_a_second_learner_trains_resumes_and_is_kept(reinforced):
    folder, outcome = reinforced
    assert outcome.json()["env_steps"] >= 600
    (run,) = (folder / "kept" / "tf_marl").iterdir()
    metrics = (run / "metrics.csv").read_text()
    assert {"loss/policy", "grad_norm/baseline", "eval/battle_won_mean"} <= {
        line.split(",")[2] for line in metrics.splitlines()
    }
    assert "trust_region" not in metrics  # that is PPO's
    assert (run / "artifacts" / "replay.html").stat().st_size > 10_000
    assert list((run / "models").iterdir())


def test_a_second_learners_team_is_evaluated_and_exported(reinforced, warm_launch):
    folder, _ = reinforced
    played = warm_launch("launch.evaluate", f"--root_dir={folder}/run", "--episodes=4", "--json").json()
    assert {"battle_won_mean", "return_mean"} <= played.keys()
    made = warm_launch("launch.export", f"--root_dir={folder}/run", f"--out={folder}/exported", "--json").json()
    assert made["algorithm"] == "reinforce"
    assert (pathlib.Path(made["saved_model"]) / "signature.json").is_file()


def test_a_learner_a_world_and_a_sink_of_ones_own_need_one_file_and_no_change(launch, tmp_path):
    (tmp_path / "mine.gin").write_text(
        "train.agent = @counting\n"
        "train.num_env_steps = 200\ntrain.rollout_steps = 8\ntrain.eval_episodes = 4\n"
        'environment.backend = "agreeing"\nenvironment.map_name = "agree"\nenvironment.num_envs = 4\n'
    )
    env = {"PYTHONPATH": HERE}
    flags = ["--plugin=my_team", "--gin_file=mine.gin", "--root_dir=run", "--tracking_uri=lines:kept.txt", "--json"]
    trained = launch("launch.train", *flags, "--noregister", cwd=tmp_path, env=env)
    result = trained.json()
    assert 0.0 <= result["eval/return_mean"] <= 1.0
    assert f"return {result['eval/return_mean']:.2f} in its greedy episodes" in trained.stdout
    kept = (tmp_path / "kept.txt").read_text()
    assert kept.startswith("start counting_agree_seed0 @counting\n")
    assert "count/rollouts" in kept
    assert kept.rstrip().endswith("finish FINISHED")
    played = launch("launch.evaluate", "--plugin=my_team", "--root_dir=run", "--json", cwd=tmp_path, env=env)
    assert json.loads(played.stdout.splitlines()[-1])["episode_length_mean"] == 1.0
    refused = launch("launch.evaluate", "--root_dir=run", cwd=tmp_path, env=env)
    assert refused.code == 2
    assert "counting" in refused.stderr


def test_a_plugin_that_is_none_is_named(warm_launch):
    refused = warm_launch("launch.train", "--plugin=no_such_module", "--gin_file=ippo.gin")
    assert refused.code == 2
    assert refused.stderr.startswith("error: --plugin=no_such_module: No module named 'no_such_module'")
