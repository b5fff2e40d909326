"""What a run is expected to hold in memory, beside what it holds."""

import json
import subprocess
import sys

import pytest

from tf_marl import environments
from tf_marl.agents.ppo import variants
from tf_marl.training import memory


def test_a_container_may_have_less_memory_than_the_machine(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CONTAINER", [limit, tmp_path / "nowhere"])
    limit.write_text("1000000\n")
    assert memory.available() == 0.001
    limit.write_text("max\n")
    assert memory.available() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("rnn", ["none", "gru"])
def test_a_run_takes_about_as_much_memory_as_expected(rnn, tmp_path):
    """Of a thousand environments more than a few, so that what TensorFlow takes for itself does not count."""
    flags = ["--what=train", "--map=2s3z", "--repeats=1", "--json", f"--gin_bindings=ppo.rnn = '{rnn}'"]
    peaks, expected = [], []
    for num_envs in (16, 1040):
        command = [sys.executable, "-m", "launch.benchmark", *flags, f"--num_envs={num_envs}"]
        said = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path).stdout.splitlines()[-1]
        peaks.append(json.loads(said)["peak_memory_mib"] * 2**20 / 1e9)
        world = environments.make("2s3z", num_envs=num_envs)
        agent = variants.ippo(world.time_step_spec, world.action_spec, rnn=rnn)
        expected.append(memory.of_training(agent, num_envs, 64))
    assert expected[1] - expected[0] == pytest.approx(peaks[1] - peaks[0], rel=0.4)
