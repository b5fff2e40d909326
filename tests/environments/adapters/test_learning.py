"""Teams learn in environments of others: random against trained return, through the commands."""

import json
import subprocess
import sys

import pytest

# Gin file, map, package, env steps, and a return that random play is below and a trained team above.
CLAIMS = [
    ("simple_spread", "pettingzoo:mpe2.simple_spread_v3", "mpe2", "400_000", -60.0),
    ("foraging", "gymnasium:Foraging-8x8-2p-2f-coop-v3", "lbforaging", "1_000_000", 0.2),
]


def run(command, *flags):
    """The JSON on the last line of its output."""
    done = subprocess.run([sys.executable, "-m", command, *flags, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(("gin_file", "name", "package", "num_env_steps", "between"), CLAIMS)
def test_it_learns(gin_file, name, package, num_env_steps, between, tmp_path):
    pytest.importorskip(package, reason="the extra `worlds` is not there")
    random = run("launch.evaluate", "--policy=random", f"--map={name}", "--episodes=64")
    trained = run(
        "launch.train",
        "--gin_file=ippo.gin",
        f"--gin_file=worlds/{gin_file}.gin",
        f"--gin_bindings=train.num_env_steps = {num_env_steps}",
        f"--root_dir={tmp_path}/run",
        f"--tracking_uri=folder:{tmp_path}/kept",
    )
    print(gin_file, random["return_mean"], trained["eval/return_mean"])
    assert random["return_mean"] < between < trained["eval/return_mean"]
