"""Loops written for SMAC's `StarCraft2Env` run unchanged, in workers too."""

import json
import multiprocessing
import re
import subprocess
import sys

import numpy as np
import pytest

from tf_marl.environments.smac_api import CombatEnv as StarCraft2Env

STOP = 1


@pytest.mark.parametrize("map_name", ["3m", *(pytest.param(name, marks=pytest.mark.slow) for name in ("2s3z", "MMM"))])
def test_the_loop_of_smacs_examples_runs_unchanged(map_name):
    env = StarCraft2Env(map_name=map_name)
    env_info = env.get_env_info()
    n_actions = env_info["n_actions"]
    n_agents = env_info["n_agents"]
    for _ in range(3):
        env.reset()
        terminated = False
        episode_steps = 0
        while not terminated:
            obs = env.get_obs()
            state = env.get_state()
            actions = []
            for agent_id in range(n_agents):
                avail_actions = env.get_avail_agent_actions(agent_id)
                assert len(avail_actions) == n_actions
                avail_actions_ind = np.nonzero(avail_actions)[0]
                actions.append(np.random.choice(avail_actions_ind))
            _, terminated, _ = env.step(actions)
            episode_steps += 1
        assert episode_steps <= env_info["episode_limit"]
        assert len(obs) == n_agents
        assert state.shape == (env_info["state_shape"],)
    stats = env.get_stats()
    assert stats["battles_game"] == 3
    assert stats["win_rate"] == stats["battles_won"] / 3
    assert env.close() is None


def test_pymarls_runner_gets_what_its_buffer_is_made_for():
    """PyMARL's environment arguments, scheme and episode runner, reduced to what touches the environment."""
    env_args = json.loads(
        """{"continuing_episode": false, "difficulty": "7", "game_version": null, "map_name": "3m", "move_amount": 2,
        "obs_all_health": true, "obs_instead_of_state": false, "obs_last_action": false, "obs_own_health": true,
        "obs_pathing_grid": false, "obs_terrain_height": false, "obs_timestep_number": false, "reward_death_value": 10,
        "reward_defeat": 0, "reward_negative_scale": 0.5, "reward_only_positive": true, "reward_scale": true,
        "reward_scale_rate": 20, "reward_sparse": false, "reward_win": 200, "replay_dir": "", "replay_prefix": "",
        "state_last_action": true, "state_timestep_number": false, "step_mul": 8, "seed": 7, "heuristic_ai": false,
        "heuristic_rest": false, "debug": false}"""
    )
    env = StarCraft2Env(**env_args)
    env_info = env.get_env_info()
    steps, n, a = env_info["episode_limit"] + 1, env_info["n_agents"], env_info["n_actions"]
    buffer = {
        "state": np.zeros([steps, env_info["state_shape"]], np.float32),
        "obs": np.zeros([steps, n, env_info["obs_shape"]], np.float32),
        "avail_actions": np.zeros([steps, n, a], np.int32),
        "terminated": np.zeros([steps, 1], np.uint8),
    }
    rng = np.random.default_rng(0)
    env.reset()
    t, terminated = 0, False
    while True:
        pre_transition_data = {
            "state": [env.get_state()],
            "avail_actions": [env.get_avail_actions()],
            "obs": [env.get_obs()],
        }
        for name, value in pre_transition_data.items():
            buffer[name][t] = np.array(value)[0]
        if terminated:
            break
        actions = np.array([[rng.choice(np.flatnonzero(avail)) for avail in env.get_avail_actions()]])
        _, terminated, step_info = env.step(actions[0])
        buffer["terminated"][t] = terminated != step_info.get("episode_limit", False)
        t += 1
    assert buffer["terminated"].sum() == 1
    assert buffer["obs"][:t].any(axis=(1, 2)).all()
    assert {"battle_won", "dead_allies", "dead_enemies"} == set(step_info)


PARENT_OF_A_WORKER = """
import os, sys
from tf_marl.environments.smac_api import CombatEnv
env = CombatEnv("3m", seed=5)
env.get_env_info()
worker = os.fork()
if worker:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
state = env.reset()[1]
env.step([1] * 3)
print(state.tobytes().hex(), env.get_state().tobytes().hex(), flush=True)
os._exit(0)
"""


def test_a_worker_forked_before_tensorflow_has_started_plays():
    """As PyMARL's parallel runner has it: the parent makes environments at most, and asks them for sizes."""
    parent = [sys.executable, "-c", PARENT_OF_A_WORKER]
    told = subprocess.run(parent, capture_output=True, text=True, timeout=300, check=True).stdout.split()
    env = StarCraft2Env("3m", seed=5)
    for state in (env.reset()[1], (env.step([STOP] * 3), env.get_state())[1]):
        assert state.tobytes().hex() == told.pop(0)


def test_a_worker_forked_too_late_is_told_the_cure_at_once():
    env = StarCraft2Env("3m", seed=0)
    obs, _ = env.reset()
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()

    def work():
        for play in (StarCraft2Env("3m").reset, lambda: env.step([STOP] * 3)):
            with pytest.raises(RuntimeError) as refusal:
                play()
            there.send(str(refusal.value))
        there.send(env.get_obs())

    worker = fork.Process(target=work)
    worker.start()
    try:
        for _ in range(2):
            assert here.poll(30)
            assert re.search(r"forked after TensorFlow .* before the first reset\(\).*spawn", here.recv())
        np.testing.assert_array_equal(here.recv(), obs)
    finally:
        worker.kill()
    env.step([STOP] * 3)  # here all goes on


def test_types_and_shapes_are_smacs():
    env = StarCraft2Env("2s3z", seed=1)
    obs, state = env.reset()
    assert type(obs) is list
    assert [(o.dtype, o.shape) for o in obs] == [(np.float32, (80,))] * 5
    assert (state.dtype, state.shape) == (np.float32, (120,))
    assert (env.get_obs_agent(2) == obs[2]).all()
    avail = env.get_avail_actions()
    assert [[type(flag) for flag in row] for row in avail] == [[int] * 11] * 5
    assert np.isin(avail, [0, 1]).all()
    assert env.get_avail_agent_actions(3) == avail[3]

    reward, terminated, info = env.step(np.array([STOP] * 5))
    assert (type(reward), type(terminated)) == (float, bool)
    assert {name: type(value) for name, value in info.items()} == {
        "battle_won": bool,
        "dead_allies": int,
        "dead_enemies": int,
    }
    assert env.last_action.tolist() == np.eye(11)[[STOP] * 5].tolist()
    assert {name: type(value) for name, value in env.get_stats().items()} == {
        "battles_won": int,
        "battles_game": int,
        "battles_draw": int,
        "win_rate": float,
        "timeouts": int,
        "restarts": int,
    }
    json.dumps([reward, terminated, info, env.get_stats(), env.get_env_info(), env.get_unit_types()])


@pytest.mark.parametrize(
    ("map_name", "n", "m", "limit", "obs_size", "state_size", "max_reward"),
    [
        ("3m", 3, 3, 60, 30, 48, 365),
        ("MMM2", 10, 12, 180, 176, 322, 1205),
        ("corridor", 6, 24, 400, 156, 282, 1280),
    ],
)
def test_sizes_are_known_before_the_first_reset(map_name, n, m, limit, obs_size, state_size, max_reward):
    env = StarCraft2Env(map_name=map_name)
    assert (env.n_agents, env.n_enemies, env.episode_limit, env.max_reward) == (n, m, limit, max_reward)
    assert (env.get_obs_size(), env.get_state_size(), env.get_total_actions()) == (obs_size, state_size, 6 + m)
    info = env.get_env_info()
    columns = len(info["agent_features"]), len(info["enemy_features"])
    assert n * columns[0] + m * columns[1] + n * (6 + m) == state_size
    assert env.get_stats()["win_rate"] == 0
    assert env.agents == env.enemies == {}
    assert (env.map_x, env.max_distance_y, env.pathing_grid.shape) == (32, 32, (32, 32))


def test_the_default_map_is_smacs():
    env = StarCraft2Env()
    assert env.map_type == "marines"
    assert env.n_agents == 8
