"""A learning claim is tested by learning: the README's commands reach their win rates within their times."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("map_name", "seed", "minutes"),
    [("3m", 0, 3), ("3m", 1, 3), ("3m", 2, 3), ("2s3z", 0, 20), ("8m", 0, 20), ("2m_vs_1z", 0, 20), ("MMM", 0, 20)],
)
def test_ippo_learns_to_win(map_name, seed, minutes, tmp_path):
    """At least 0.9 of the 32 greedy episodes that close the run; times are those of an idle machine with 2 cores."""
    command = [sys.executable, "-m", "launch.train", "--gin_file=ippo.gin", f"--gin_file=maps/{map_name}.gin", "--json"]
    command += [f"--seed={seed}", f"--root_dir={tmp_path}/run", f"--tracking_uri=sqlite:///{tmp_path}/mlflow.db"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    print(map_name, seed, result)
    assert result["eval/battle_won_mean"] >= 0.9
    assert result["seconds"] <= 60 * minutes
