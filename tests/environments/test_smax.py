"""JaxMARL's SMAX in a worker process; TF_MARL_JAX names an interpreter that has jaxmarl."""

import os

import numpy as np
import pytest
from tf_agents.trajectories import time_step as ts

from tf_marl import environments

EAST, FIRST_ATTACK = 1, 5
PYTHON = os.environ.get("TF_MARL_JAX")


def test_an_interpreter_without_jaxmarl_is_refused_in_a_line(tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\necho No module named jax >&2; exit 1\n")
    (tmp_path / "python").chmod(0o755)
    told = r"smax:3m: .* No module named jax; environment.python names an interpreter that has jaxmarl"
    with pytest.raises(ValueError, match=told):
        environments.make("smax:3m", python=str(tmp_path / "python"))


@pytest.mark.skipif(not PYTHON, reason="TF_MARL_JAX names no interpreter that has jaxmarl")
def test_a_won_battle_returns_2_and_no_other_one_does():
    """The share of the enemies' health that was taken, and 1 for the victory."""
    world = environments.make("smax:3m", num_envs=4, python=PYTHON, env_kwargs={"enemy_shoots": False})
    assert (world.unit_types, world.episode_limit) == (("marine",) * 3, 101)
    shown, returns, ended, lengths = world.reset(), np.zeros(4), [], np.zeros(4, int)
    while len(ended) < 8:
        available = shown.observation["avail_actions"]
        assert (available.sum(axis=-1)[~shown.observation["alive"]] == 1).all()
        advance = np.where(np.arange(4)[:, None] % 2, EAST, 4)  # every other team never moves
        attack = FIRST_ATTACK + available[..., FIRST_ATTACK:].argmax(axis=-1)
        shown = world.step(np.where(available[..., FIRST_ATTACK:].any(axis=-1), attack, advance).astype(np.int32))
        returns, lengths = returns + shown.reward, lengths + 1
        for row in np.flatnonzero(shown.step_type == ts.StepType.LAST):
            won = bool(world.info()["battle_won"][row])
            assert (returns[row] == pytest.approx(2.0, abs=1e-3)) == won
            assert shown.discount[row] == (lengths[row] == 101) or won
            ended.append(won)
        first = shown.step_type == ts.StepType.FIRST
        returns[first], lengths[first] = 0.0, 0
    assert any(ended)
    world.close()
