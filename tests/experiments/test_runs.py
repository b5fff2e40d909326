"""What a run's configuration tells of it."""

import pytest

from tf_marl import settings
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


def test_a_run_of_an_older_version_is_refused_in_a_line(tmp_path):
    (tmp_path / runs.CONFIG_NAME).write_text("train.agent = @ippo\nippo.gamma = 0.99\n")
    with pytest.raises(ValueError, match=r"^--root_dir=.*: its run is of an older version.*; name another folder$"):
        runs.load_run(tmp_path, best=True)
    with pytest.raises(ValueError, match="of an older version"):
        runs.check_unchanged(tmp_path, settings.flat(runs.config_of(tmp_path)), {})


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ("environment.map_name = 'pettingzoo:os:system'", "imports os; if you trust it, add --plugin=os"),
        ("environment.map_name = 'pettingzoo:mpe2.simple_v3:os.system'", "imports mpe2.simple_v3; if you trust it"),
        ("environment.map_name = 'gymnasium:antigravity:Task-v0'", "imports antigravity; if you trust it"),
        ("environment.map_name = 'smax:3m'\nenvironment.python = '/my/python'", "export TF_MARL_PYTHON=/my/python"),
    ],
)
def test_a_strangers_run_imports_and_starts_nothing(environment, told, tmp_path, clean_gin):
    (tmp_path / runs.CONFIG_NAME).write_text(f"train.agent = @ippo\n{environment}\n")
    with pytest.raises(ValueError, match=told):
        runs.load_run(tmp_path, best=True)
