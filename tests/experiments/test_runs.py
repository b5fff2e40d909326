"""What a run's configuration tells of it."""

import pytest

from tf_marl.experiments import runs


def test_the_environment_of_a_policy_is_told_in_plain_values():
    config = """
        # Macros:
        scale = 10.0
        environment.backend = 'combat'
        environment.map_name = '3m'
        environment.num_envs = 64
        environment.reward_scale_rate = %scale
        train.agent = @ippo
    """
    lines = "\n".join(line.strip() for line in config.splitlines())
    assert runs.training_facts(lines) == {
        "algorithm": "ippo",
        "map": "3m",
        "environment": {"backend": "combat", "map_name": "3m", "reward_scale_rate": 10.0},
    }
    with pytest.raises(ValueError, match=r"environment.enemy = @choice\(\): set it to a plain value"):
        runs.training_facts(lines + "\nenvironment.enemy = @choice()")
