"""Learners, worlds and sinks of one's own go through every command, and none of those was told of them."""

import csv
import json
import os
import pathlib

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "examples"  # of docs/extending.md
ENV = {"PYTHONPATH": os.pathsep.join(filter(None, [str(EXAMPLES), os.environ.get("PYTHONPATH")]))}
LEARNER_AND_WORLD = ("--plugin=my_learner", "--plugin=my_world")


@pytest.fixture(scope="module")
def reinforced(warm_launch, tmp_path_factory):
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
    half = warm_launch("launch.train", *flags, "--gin_bindings=train.num_env_steps = 300")
    assert half.code == 0, half.stderr
    longer = ("--gin_bindings=train.num_env_steps = 600", "--allow_config_change")
    whole = warm_launch("launch.train", *flags, *longer)
    assert whole.code == 0, whole.stderr
    assert "resuming" in whole.stderr
    return folder, whole


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_second_learners_team_is_evaluated_and_exported(reinforced, warm_launch):
    folder, _ = reinforced
    played = warm_launch("launch.evaluate", f"--root_dir={folder}/run", "--episodes=4", "--json").json()
    assert {"battle_won_mean", "return_mean"} <= played.keys()
    made = warm_launch("launch.export", f"--root_dir={folder}/run", f"--out={folder}/exported", "--json").json()
    assert made["algorithm"] == "reinforce"
    assert (pathlib.Path(made["saved_model"]) / "signature.json").is_file()


def test_the_examples_of_a_learner_a_world_and_a_sink_go_through_the_commands(launch, tmp_path):
    flags = [
        *LEARNER_AND_WORLD,
        "--plugin=my_sink",
        f"--gin_file={EXAMPLES}/my_run.gin",
        "--gin_bindings=train.num_env_steps = 200",
        "--gin_bindings=train.eval_episodes = 4",
        "--gin_bindings=environment.num_envs = 8",
        "--root_dir=run",
        "--tracking_uri=lines:kept.txt",
        "--noregister",
        "--json",
    ]
    trained = launch("launch.train", *flags, cwd=tmp_path, env=ENV)
    result = trained.json()
    assert f"met in {result['eval/met_mean']:.0%}, return {result['eval/return_mean']:.2f}" in trained.stdout
    kept = (tmp_path / "kept.txt").read_text()
    assert kept.startswith("start cross_entropy_pair_seed0 @cross_entropy\n")
    assert "elite/return_min" in kept
    assert kept.rstrip().endswith("finish FINISHED")
    played = launch("launch.evaluate", *LEARNER_AND_WORLD, "--root_dir=run", "--json", cwd=tmp_path, env=ENV)
    assert json.loads(played.stdout.splitlines()[-1])["episode_length_mean"] <= 16
    refused = launch("launch.evaluate", "--root_dir=run", cwd=tmp_path, env=ENV)
    assert refused.code == 2
    assert "cross_entropy" in refused.stderr


def test_the_examples_of_a_clip_rule_and_a_restraint_go_through_training(launch, tmp_path):
    flags = ["--plugin=my_trust_region", f"--gin_file={EXAMPLES}/my_trust_region.gin", "--gin_file=maps/climbing.gin"]
    flags += ["--gin_bindings=train.num_env_steps = 100", "--gin_bindings=environment.num_envs = 4"]
    flags += ["--root_dir=run", "--tracking_uri=folder:kept", "--noregister"]
    trained = launch("launch.train", *flags, cwd=tmp_path, env=ENV)
    assert trained.code == 0, trained.stderr
    (metrics,) = tmp_path.glob("kept/**/metrics.csv")
    recorded = {name: float(value) for _, _, name, value in csv.reader(metrics.read_text().splitlines()[1:])}
    assert recorded["trust_region/epsilon"] == pytest.approx(0.5 / 2**0.5)
    assert 1 <= recorded["trust_region/stopped_after"] <= 4


@pytest.mark.slow
def test_the_example_of_a_learner_learns_to_meet(launch, tmp_path):
    flags = [*LEARNER_AND_WORLD, f"--gin_file={EXAMPLES}/my_run.gin", "--root_dir=run", "--tracking_uri=folder:kept"]
    assert launch("launch.train", *flags, "--json", cwd=tmp_path, env=ENV).json()["eval/met_mean"] >= 0.9


def test_a_plugin_that_is_none_is_named(warm_launch):
    refused = warm_launch("launch.train", "--plugin=no_such_module", "--gin_file=ippo.gin")
    assert refused.code == 2
    assert refused.stderr.startswith("error: --plugin=no_such_module: No module named 'no_such_module'")


GAME = (f"--gin_file={EXAMPLES}/my_game.gin", "--root_dir=run", "--tracking_uri=folder:kept", "--json")


def test_the_example_of_a_game_goes_through_training_and_evaluation(launch, tmp_path):
    pytest.importorskip("pettingzoo", reason="the extra `worlds` is not there")
    small = ["train.num_env_steps = 300", "train.rollout_steps = 12", "train.eval_episodes = 4"]
    small += ["environment.num_envs = 8", "ppo.hidden = (16,)"]
    flags = [*GAME, *(f"--gin_bindings={binding}" for binding in small)]
    trained = launch("launch.train", "--plugin=my_game", *flags, cwd=tmp_path, env=ENV)
    assert trained.code == 0, trained.stderr
    assert trained.json()["env_steps"] >= 300
    evaluate = ("launch.evaluate", "--root_dir=run", "--episodes=4", "--json")
    assert launch(*evaluate, "--plugin=my_game", cwd=tmp_path, env=ENV).json().keys() >= {"met_mean", "return_mean"}
    refused = launch(*evaluate, cwd=tmp_path, env=ENV)
    assert refused.code == 2
    assert "imports my_game; if you trust it, add --plugin=my_game" in refused.stderr


@pytest.mark.slow
def test_the_walkers_of_the_example_learn_to_meet(launch, tmp_path):
    pytest.importorskip("pettingzoo", reason="the extra `worlds` is not there")
    trained = launch("launch.train", "--plugin=my_game", *GAME, cwd=tmp_path, env=ENV)
    assert trained.json()["eval/met_mean"] >= 0.9
