"""Timing the parts of training."""

import pytest


@pytest.mark.parametrize(("what", "num_envs"), [("env", 4), ("collect", 4), ("train", 4), ("smac_api", 1)])
def test_benchmark_reports_the_median_between_the_extremes(what, num_envs, warm_launch):
    result = warm_launch(
        "launch.benchmark",
        f"--what={what}",
        "--map=3m",
        "--num_envs=4",
        "--repeats=2",
        "--gin_bindings=ippo.hidden = (16,)",
        "--gin_bindings=train.rollout_steps = 8",
        "--json",
    ).json()
    assert {name: result[name] for name in ("what", "map", "num_envs", "repeats")} == {
        "what": what,
        "map": "3m",
        "num_envs": num_envs,
        "repeats": 2,
    }
    fastest, slowest = result["env_steps_per_second_max"], result["env_steps_per_second_min"]
    assert 0 < slowest <= result["env_steps_per_second"] <= fastest
