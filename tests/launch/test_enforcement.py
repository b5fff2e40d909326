"""The table of what holds the trust region, from the command line."""

import pandas as pd

SMALL = (
    "--gin_bindings=environment.num_envs = 4",
    "--gin_bindings=train.rollout_steps = 8",
    "--gin_bindings=train.eval_episodes = 2",
    "--gin_bindings=ippo.hidden = (16,)",
    "--gin_bindings=ippo.actor_learning_rate = 0.01",
)


def test_a_rule_is_tried_once_and_backtracking_holds_alpha(warm_launch, tmp_path):
    arguments = ("launch.enforcement", "--map=3m", "--rule=backtrack", "--seeds=1", "--env_steps=300", "--alpha=0.1")
    arguments += (*SMALL, "--full_every=2", f"--out={tmp_path}", "--json")
    first = warm_launch(*arguments)
    (run,) = first.json()["runs"]
    assert 0 < run["joint_tv_max"] < run["joint_tv_product_highest"] <= 0.1
    assert run["joint_tv_product_within"] == 1
    assert run["step_share"] < 1  # there was something to hold
    assert "1 of 1: 3m, backtrack, seed 0" in first.stderr
    again = warm_launch(*arguments)
    assert "of 1:" not in again.stderr
    assert again.json()["runs"] == pd.read_csv(tmp_path / "runs.csv").to_dict("records")
    assert "| 3 | 3m | 300 | 1 | backtrack | 0.3 |" in (tmp_path / "enforcement.md").read_text()
