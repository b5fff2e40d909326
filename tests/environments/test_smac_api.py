"""The embedded battle as code for SMAC knows it: loops written for `StarCraft2Env` run unchanged."""

import dataclasses
import json
import multiprocessing
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf

from tf_marl import environments
from tf_marl.environments.combat.options import Options
from tf_marl.environments.smac_api import CombatEnv as StarCraft2Env

STOP, EAST, ATTACK = 1, 4, 6
# Everything that changes what is observed or in which order, at once.
ALL_FLAGS = {
    "obs_last_action": True,
    "obs_pathing_grid": True,
    "obs_timestep_number": True,
    "obs_instead_of_state": True,
    "state_timestep_number": True,
    "shuffle_enemies": True,
}


def random_actions(env, rng):
    return [rng.choice(np.flatnonzero(available)) for available in env.get_avail_actions()]


def attack_or_advance(env):
    """Each agent attacks the first enemy it may, else goes east, else stops."""
    actions = []
    for available in env.get_avail_actions():
        wishes = [*range(ATTACK, env.n_actions), EAST, STOP, 0]
        actions.append(next(action for action in wishes if available[action]))
    return actions


def play(env, choose):
    """One episode. Returns: rewards, the last info."""
    env.reset()
    rewards, terminated, info = [], False, {}
    while not terminated:
        reward, terminated, info = env.step(choose(env))
        rewards.append(reward)
    return rewards, info


# The loops that people have


@pytest.mark.parametrize("map_name", ["3m", "2s3z", "MMM"])
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


# The battle


@pytest.mark.parametrize(
    ("map_name", "options"), [pytest.param("MMM", {}, marks=pytest.mark.slow), ("2s3z", ALL_FLAGS)]
)
def test_battles_are_those_of_the_tf_environment(map_name, options):
    ours = StarCraft2Env(map_name, seed=5, **options)
    theirs = environments.load(map_name, seed=5, **options)
    rng, time_step = np.random.default_rng(0), theirs.reset()
    obs, state = ours.reset()
    for _ in range(200):  # 2 episodes or more
        observation = tf.nest.map_structure(lambda leaf: leaf[0].numpy(), time_step.observation)
        # Two programs, so XLA may sum in two orders.
        np.testing.assert_allclose(obs, observation["obs"], atol=1e-5)
        np.testing.assert_allclose(state, observation["state"], atol=1e-5)
        assert (np.array(ours.get_avail_actions()) == observation["avail_actions"]).all()
        if time_step.is_last()[0]:
            time_step = theirs.step(np.zeros([1, ours.n_agents], np.int32))
            obs, state = ours.reset()
            continue
        actions = random_actions(ours, rng)
        time_step = theirs.step(np.array([actions], np.int32))
        reward, terminated, info = ours.step(actions)
        obs, state = ours.get_obs(), ours.get_state()
        np.testing.assert_allclose(reward, time_step.reward[0], atol=1e-5)
        assert terminated == time_step.is_last()[0]
        told = theirs.info()
        assert info == {name: told[name].numpy()[0] for name in info}
    assert ours.get_stats()["battles_game"] >= 2


def test_a_win_returns_20_and_is_counted():
    env = StarCraft2Env("3m", enemy="random", seed=0)
    rewards, info = play(env, attack_or_advance)
    assert info["battle_won"] is True
    assert info["dead_enemies"] == 3
    assert sum(rewards) == pytest.approx(20)  # marines do not recover
    assert env.death_tracker_enemy.tolist() == [1, 1, 1]
    assert env.death_tracker_ally.sum() == info["dead_allies"]
    stats = env.get_stats()
    assert (stats["battles_won"], stats["battles_game"], stats["win_rate"]) == (1, 1, 1)


def test_a_defeat_is_counted_and_the_dead_send_no_op():
    env = StarCraft2Env("3m", seed=0)
    env.reset()
    terminated = False
    while not terminated:
        dead = env.death_tracker_ally.astype(bool)
        for agent in np.flatnonzero(dead):
            assert env.get_avail_agent_actions(agent) == [1] + [0] * 8
            assert not env.get_obs_agent(agent).any()
        _, terminated, info = env.step(np.where(dead, 0, STOP))
    assert (info["battle_won"], info["dead_allies"]) == (False, 3)
    assert (env.last_action[dead] == np.eye(9)[0]).all()
    assert env.get_stats() == {
        "battles_won": 0,
        "battles_game": 1,
        "battles_draw": 0,
        "win_rate": 0.0,
        "timeouts": 0,
        "restarts": 0,
    }


@pytest.mark.parametrize("continuing_episode", [False, True])
def test_a_time_out_is_told_only_to_those_who_continue(continuing_episode):
    """The spine crawler never comes, and the stalkers do not go to it."""
    env = StarCraft2Env("2s_vs_1sc", continuing_episode=continuing_episode, seed=0)
    rewards, info = play(env, lambda _: [STOP, STOP])
    assert len(rewards) == env.episode_limit == 300
    assert info.get("episode_limit", False) is continuing_episode
    assert not info["battle_won"]
    assert (env.get_stats()["timeouts"], env.get_stats()["battles_draw"], env.get_stats()["battles_game"]) == (1, 1, 1)


def test_mutual_death_is_a_battle_neither_won_nor_timed_out(monkeypatch):
    env = StarCraft2Env("3m", continuing_episode=True)
    env.reset()
    last, no_discount = 2, 0
    drawn = env._facts._replace(outcome=np.array([1.5, no_discount, last, False], np.float32))
    monkeypatch.setattr(env, "_play", lambda *_, **__: drawn)
    reward, terminated, info = env.step([STOP] * 3)
    assert (reward, terminated, info["battle_won"], "episode_limit" in info) == (1.5, True, False, False)
    assert (env.get_stats()["battles_game"], env.get_stats()["battles_won"], env.get_stats()["timeouts"]) == (1, 0, 0)


def test_equal_seeds_equal_battles():
    def states(seed):
        env, rng, seen = StarCraft2Env("3m", seed=seed), np.random.default_rng(0), []
        for _ in range(2):
            play(env, lambda env: (seen.append(env.get_state()), random_actions(env, rng))[1])
        return np.concatenate(seen)

    first = states(3)
    np.testing.assert_array_equal(first, states(3))
    assert not np.array_equal(first[:200], states(4)[:200])
    assert not np.array_equal(first[:200], states(None)[:200])
    assert (StarCraft2Env("3m", seed=2**32 - 1).seed(), StarCraft2Env("3m").seed()) == (2**32 - 1, None)


def test_a_new_reset_leaves_the_old_battle_behind():
    env = StarCraft2Env("3m", seed=0)
    first = env.reset()[1]
    env.step([EAST] * 3)
    second = env.reset()[1]
    assert not np.array_equal(first, second)  # spawns differ a little
    assert not env.last_action.any()
    assert env.get_stats()["battles_game"] == 0
    assert env.max_reward == 365


# Mistakes


@pytest.mark.parametrize("action", [0, ATTACK, 9, -1])
def test_an_unavailable_action_is_refused_and_nothing_is_played(action):
    env, twin = StarCraft2Env("3m", seed=0), StarCraft2Env("3m", seed=0)
    before = env.reset()[1]
    twin.reset()
    with pytest.raises(AssertionError, match=rf"agent 1 cannot take action {action}; it can take one of \[1, "):
        env.step([STOP, action, STOP])
    assert (env.get_state() == before).all()
    assert not env.last_action.any()
    assert env.step([EAST] * 3) == twin.step([EAST] * 3)
    assert (env.get_state() == twin.get_state()).all()


def test_asking_too_early_or_playing_on_is_told_so():
    env = StarCraft2Env("3m")
    for ask in (
        env.get_obs,
        env.get_state,
        env.get_state_dict,
        env.get_avail_actions,
        env.get_visibility_matrix,
        lambda: env.get_obs_agent(0),
        lambda: env.get_avail_agent_actions(0),
        lambda: env.get_unit_by_id(0),
        lambda: env.step([STOP] * 3),
    ):
        with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
            ask()
    with pytest.warns(UserWarning, match="not known yet"):
        assert env.get_unit_types() is None
    play(env, attack_or_advance)
    final = env.get_state()
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        env.step([STOP] * 3)
    assert (env.get_state() == final).all()
    env.reset()
    with pytest.raises(ValueError, match="2 actions for 3 agents"):
        env.step([STOP] * 2)
    env.full_restart()
    assert env.get_stats()["restarts"] == 1
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        env.step([STOP] * 3)
    env.reset()
    env.step([STOP] * 3)


def test_what_the_caller_does_to_arrays_stays_with_the_caller():
    env = StarCraft2Env("3m", seed=0)
    obs, state = env.reset()
    kept = [o.copy() for o in obs], state.copy()
    avail = env.get_avail_actions()
    for array in (*obs, state, env.get_obs_agent(0), *env.get_state_dict().values(), *avail):
        array[0] = -7
    np.testing.assert_array_equal(env.get_obs(), kept[0])
    np.testing.assert_array_equal(env.get_state(), kept[1])
    assert avail != env.get_avail_actions()
    obs_then = env.get_obs()
    env.step([EAST] * 3)
    np.testing.assert_array_equal(obs_then, kept[0])


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"map_name": "9m"}, ValueError, "unknown map '9m'"),
        ({"map_name": 3}, ValueError, "CombatEnv.map_name: .*string, not 3"),
        ({"nonsense": 1, "foo": 2}, TypeError, "nonsense, foo"),
        ({"step_mul": 0}, ValueError, "CombatEnv.step_mul: .*greater than 0, not 0"),
        ({"reward_win": "much"}, ValueError, "CombatEnv.reward_win: .*number, not 'much'"),
        ({"seed": -1}, ValueError, "CombatEnv.seed: .*not -1"),
        ({"seed": "x"}, ValueError, "CombatEnv.seed: .*integer, not 'x'"),
        ({"continuing_episode": "no"}, ValueError, "CombatEnv.continuing_episode: .*boolean, not 'no'"),
        ({"difficulty": "B"}, ValueError, "CombatEnv.difficulty: .*not 'B'"),
        ({"profile": "void"}, ValueError, "CombatEnv.profile: .*not 'void'"),
        ({"obs_terrain_height": True}, ValueError, "CombatEnv.obs_terrain_height: .*leave it False"),
        ({"game_version": "4.10"}, ValueError, "CombatEnv.game_version: .*leave it None"),
        ({"replay_dir": "replays"}, ValueError, "CombatEnv.replay_dir: .*launch.evaluate --replay"),
        ({"heuristic_ai": True}, ValueError, "CombatEnv.heuristic_ai: .*leave it False"),
        ({"debug": True}, ValueError, "CombatEnv.debug: .*leave it False"),
    ],
)
def test_arguments_that_cannot_be_are_refused_in_one_line(arguments, error, says):
    with pytest.raises(error, match=says) as refusal:
        StarCraft2Env(**arguments)
    assert "\n" not in str(refusal.value)


def test_harmless_arguments_of_the_game_are_taken():
    env = StarCraft2Env("3m", difficulty="A", window_size_x=800, window_size_y=600, seed=np.int64(3))
    assert env.seed() == 3


def test_drawing_and_replays_point_to_the_launcher():
    env = StarCraft2Env("3m")
    for ask in (env.render, lambda: env.render(mode="rgb_array"), env.save_replay):
        with pytest.raises(NotImplementedError, match=r"launch\.evaluate --replay"):
            ask()


@pytest.mark.parametrize("option", [field.name for field in dataclasses.fields(Options)])
def test_every_option_of_the_battle_can_be_set(option):
    default = getattr(Options(), option)
    if option in (only := {"profile": "smax", "enemy": "nearest", "obs_terrain_height": False}):
        other = only[option]
    else:
        other = not default if isinstance(default, bool) else default + 1
    env = StarCraft2Env("3m", **{option: other})
    if option == "obs_instead_of_state":  # done by the API itself
        assert env.get_state_size() == env.n_agents * env.get_obs_size()
    else:
        assert getattr(env._program.core.options, option) == other


# What else is told


def test_the_state_dict_is_the_state_vector_in_parts():
    env = StarCraft2Env("2s3z", seed=0)
    env.reset()
    for _ in range(3):
        env.step([EAST] * 5)
        parts = env.get_state_dict()
        assert {name: (part.dtype, part.shape) for name, part in parts.items()} == {
            "allies": (np.float64, (5, 7)),
            "enemies": (np.float64, (5, 6)),
            "last_action": (np.float64, (5, 11)),
        }
        np.testing.assert_array_equal(np.concatenate([part.ravel() for part in parts.values()]), env.get_state())


def test_the_state_dict_is_there_when_observations_are_the_state():
    env = StarCraft2Env("2s3z", seed=0, **ALL_FLAGS)
    env.reset()
    env.step([EAST] * 5)
    np.testing.assert_array_equal(env.get_state(), np.concatenate(env.get_obs()))
    parts = env.get_state_dict()
    assert [parts[name].shape for name in ("allies", "enemies", "last_action")] == [(5, 7), (5, 6), (5, 11)]
    assert parts["timestep"] == 1 / 120
    assert env.get_obs_agent(0)[-1] == np.float32(1 / 120)


@pytest.mark.parametrize(("map_name", "options"), [("2s3z", ALL_FLAGS), ("MMM", {})])
def test_units_tell_what_the_state_tells(map_name, options):
    env, rng = StarCraft2Env(map_name, seed=2, **options), np.random.default_rng(0)
    orders = set()
    for _ in range(4):
        env.reset()
        for _ in range(15):
            env.step(random_actions(env, rng))
            for side, units, x in (("allies", env.agents, 2), ("enemies", env.enemies, 1)):
                for row, unit in zip(env.get_state_dict()[side], units.values(), strict=True):
                    told = [unit.health / unit.health_max, (unit.pos.x - 16) / 32, (unit.pos.y - 16) / 32]
                    np.testing.assert_allclose(row[[0, x, x + 1]], told if unit.health > 0 else 0, atol=1e-6)
                    if env.shield_bits_ally:
                        shield = unit.shield / unit.shield_max if unit.health > 0 else 0
                        np.testing.assert_allclose(row[x + 2], shield, atol=1e-6)
        types = [unit.unit_type for unit in [*env.agents.values(), *env.enemies.values()]]
        assert env.get_unit_types() == types
        assert env.get_unit_by_id(1) == env.agents[1]
        tags = [unit.tag for unit in [*env.agents.values(), *env.enemies.values()]]
        assert len(set(tags)) == len(tags)
        orders.add(tuple(tags))
    assert (len(orders) > 1) == options.get("shuffle_enemies", False)
    if map_name == "MMM":
        assert [unit.unit_type for unit in env.agents.values()].count(env.medivac_id) == 1
        assert env.stalker_id == 0
        assert env.agents[9].energy_max == 200


@pytest.mark.parametrize("options", [{}, ALL_FLAGS])
def test_the_visibility_matrix_is_what_observations_show(options):
    env, rng = StarCraft2Env("2s3z", seed=0, **options), np.random.default_rng(0)
    env.reset()
    terminated = False
    while not terminated:
        _, terminated, _ = env.step(random_actions(env, rng))
        matrix = env.get_visibility_matrix()
        assert (matrix.dtype, matrix.shape) == (bool, (5, 10))
        allies = matrix[:, :5]
        assert (allies == allies.T).all()
        assert not allies.diagonal().any()
        moves = 12 if options else 4
        enemy_rows = np.stack(env.get_obs())[:, moves : moves + 5 * 8].reshape(5, 5, 8)
        assert (matrix[:, 5:] == (enemy_rows[:, :, 1] > 0)).all()
    assert not matrix[env.death_tracker_ally.astype(bool)].any()
    assert not matrix[:, 5:][:, env.death_tracker_enemy.astype(bool)].any()


def test_no_warning_reaches_the_user_of_a_plain_loop():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        play(StarCraft2Env("3m", seed=0), attack_or_advance)
