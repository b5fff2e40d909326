"""A learning claim is tested by learning: the README's commands reach their win rates within their times."""

import json
import subprocess
import sys

import pytest

SEEDS = (0, 1, 2)
SHORT = "--gin_bindings=train.num_env_steps = 500_000"
SHORTER = "--gin_bindings=train.num_env_steps = 300_000"
# Gin file, map, seeds, further flags, least share of the 32 greedy episodes that close the run, and minutes.
CLAIMS = [
    ("ippo", "3m", SEEDS, (), 0.9, 3),
    ("mappo", "3m", SEEDS, (), 0.9, 3),
    ("jr_ppo", "3m", SEEDS, (), 0.9, 3),
    ("ippo", "2s3z", (0,), (), 0.9, 20),
    ("ippo_rnn", "2s3z", SEEDS, (SHORT,), 0.9, 10),
    ("mappo_rnn", "2s3z", SEEDS, (SHORT,), 0.9, 10),
    ("ippo", "8m", (0,), (), 0.9, 20),
    ("ippo", "2m_vs_1z", (0,), (), 0.9, 20),
    ("ippo", "MMM", (0,), (), 0.9, 20),
    ("ippo", "2s_vs_1sc", SEEDS, (), 0.9, 20),
    ("ippo", "3s_vs_4z", SEEDS, (), 0.9, 20),
    ("ippo", "3s5z", SEEDS, (), 0.8, 20),
    ("mappo", "5m_vs_6m", SEEDS, (), 0.9, 20),  # scripted teams win 0.01 at most
    ("reinforce", "3m", SEEDS, (), 0.9, 3),
    ("happo", "3m", (0,), (), 0.9, 10),
    ("trpo", "3m", (0,), (SHORT,), 0.9, 10),
    ("hatrpo", "3m", (0,), (SHORT,), 0.9, 10),
    ("vdn", "3m", SEEDS, (SHORTER,), 0.9, 20),
    ("qmix", "3m", SEEDS, (SHORTER,), 0.9, 20),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gin_file", "map_name", "seed", "flags", "won", "minutes"),
    [(gin_file, map_name, seed, *rest) for gin_file, map_name, seeds, *rest in CLAIMS for seed in seeds],
)
def test_it_learns_to_win(gin_file, map_name, seed, flags, won, minutes, tmp_path):
    """Times are those of an idle machine with 2 cores."""
    command = [sys.executable, "-m", "launch.train", f"--gin_file={gin_file}.gin", f"--gin_file=maps/{map_name}.gin"]
    command += [*flags, "--json", f"--seed={seed}", f"--root_dir={tmp_path}/run"]
    command += [f"--tracking_uri=sqlite:///{tmp_path}/mlflow.db"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    print(gin_file, map_name, seed, result)
    assert result["eval/battle_won_mean"] >= won
    assert result["seconds"] <= 60 * minutes
