"""The embedded battle as code for SMAC knows it: loops written for `StarCraft2Env` run unchanged."""

import ast
import copy
import dataclasses
import inspect
import json
import multiprocessing
import os
import pathlib
import pickle
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
from tf_marl.environments.smac_api import Direction

NO_OP, STOP, NORTH, EAST, ATTACK = 0, 1, 2, 4, 6
SMAC = os.environ.get("TF_MARL_SMAC")  # a checkout of its repository
needs_smac = pytest.mark.skipif(not SMAC, reason="TF_MARL_SMAC names no checkout of smac")
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


# What there is


SMACS_METHODS = """
    can_move check_bounds close distance full_restart get_agent_action get_agent_action_heuristic
    get_ally_num_attributes get_avail_actions get_avail_agent_actions get_enemy_num_attributes get_env_info get_obs
    get_obs_agent get_obs_ally_feats_size get_obs_enemy_feats_size get_obs_move_feats_size get_obs_own_feats_size
    get_obs_size get_state get_state_dict get_state_size get_stats get_surrounding_height get_surrounding_pathing
    get_surrounding_points get_total_actions get_unit_by_id get_unit_type_id get_unit_types get_visibility_matrix
    init_units only_medivac_left render reset reward_battle save_replay seed step unit_max_cooldown unit_max_shield
    unit_shoot_range unit_sight_range update_units
"""
SMACS_ATTRIBUTES = """
    agents ally_state_attr_names baneling_id battles_game battles_won colossus_id continuing_episode death_tracker_ally
    death_tracker_enemy debug defeat_counted difficulty enemies enemy_state_attr_names episode_limit force_restarts
    game_version heuristic_ai heuristic_rest heuristic_targets hydralisk_id last_action last_stats map_name map_type
    map_x map_y marauder_id marine_id max_distance_x max_distance_y max_reward medivac_id n_actions n_actions_move
    n_actions_no_attack n_agents n_enemies n_obs_height n_obs_pathing obs_all_health obs_instead_of_state
    obs_last_action obs_own_health obs_pathing_grid obs_terrain_height obs_timestep_number pathing_grid
    previous_ally_units previous_enemy_units renderer replay_dir replay_prefix reward reward_death_value reward_defeat
    reward_negative_scale reward_only_positive reward_scale reward_scale_rate reward_sparse reward_win
    shield_bits_ally shield_bits_enemy stalker_id state_last_action state_timestep_number terrain_height timeouts
    unit_type_bits win_counted window_size zealot_id zergling_id
"""
LEFT_OUT = {
    "get_agent_action_heuristic": "there is no built-in player for the agents",
    "heuristic_targets": "as above",
    "init_units": "it reads the game's messages, of which there are none",
    "update_units": "as above",
    "previous_ally_units": "what reward_battle compares with; here the compiled battle does",
    "previous_enemy_units": "as above",
    "defeat_counted": "keeps SMAC from counting a defeat twice; nobody else reads it",
    "last_stats": "always None",
    "renderer": "nothing is drawn",
    "terrain_height": "in the game's files only",
}


def test_smacs_members_are_here_but_for_those_left_out_with_a_reason():
    env, methods = StarCraft2Env("3m"), set(SMACS_METHODS.split())
    assert {name for name in methods | set(SMACS_ATTRIBUTES.split()) if not hasattr(env, name)} == LEFT_OUT.keys()
    assert all(callable(getattr(env, name)) for name in methods - LEFT_OUT.keys())


@needs_smac
def test_the_lists_of_smacs_members_are_complete():
    source = pathlib.Path(SMAC, "smac/env/starcraft2/starcraft2.py").read_text()
    smacs = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "StarCraft2Env")
    methods = {node.name: node for node in smacs.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"}
    assert sorted(methods) == SMACS_METHODS.split()
    attributes = {
        node.attr
        for node in ast.walk(smacs)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr[0] != "_"
    }
    assert sorted(attributes - {"health"}) == SMACS_ATTRIBUTES.split()  # health is the units'
    for name in methods.keys() - LEFT_OUT.keys():
        theirs = [argument.arg for argument in methods[name].args.args if argument.arg != "self"]
        ours = inspect.signature(getattr(StarCraft2Env("3m"), name)).parameters
        assert list(ours) == theirs
    constructor = next(node for node in smacs.body if getattr(node, "name", "") == "__init__")
    assert [argument.arg for argument in constructor.args.args][1:] == SMACS_ARGUMENTS.split()


@needs_smac
@pytest.mark.parametrize(
    ("map_name", "options"),
    [
        ("2s3z", {"obs_pathing_grid": True, "obs_last_action": True, "state_timestep_number": True}),
        ("MMM", {"reward_only_positive": False}),
        ("3m", {"obs_all_health": False, "obs_own_health": False, "reward_sparse": True}),
    ],
)
def test_smacs_own_methods_tell_the_same_of_our_battles(map_name, options):
    environ = {"PYTHONPATH": os.pathsep.join([SMAC, *sys.path])}
    environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"  # the game's messages are older than TensorFlow's
    play = [sys.executable, pathlib.Path(__file__).with_name("smacs_methods.py"), map_name, json.dumps(options)]
    subprocess.run(play, env=os.environ | environ, check=True, timeout=600)


def observation_by_hand(env, agent):
    """Agent's observation, put together as SMAC does it from what SMAC's helpers tell."""
    me, sight = env.get_unit_by_id(agent), env.unit_sight_range(agent)
    moves = [env.can_move(me, direction) for direction in Direction]
    moves += env.get_surrounding_pathing(me) if env.obs_pathing_grid else []

    def about(unit, ally):
        shields = env.shield_bits_ally if ally else env.shield_bits_enemy
        values = [unit.health / unit.health_max]
        values += [unit.shield / env.unit_max_shield(unit)] if shields else []
        return values + np.eye(env.unit_type_bits)[env.get_unit_type_id(unit, ally)].tolist()

    def row(unit, first, ally, last_action=()):
        where = [unit.pos.x - me.pos.x, unit.pos.y - me.pos.y]
        distance = env.distance(*me.pos, *unit.pos)
        values = np.array([first, *(np.array([distance, *where]) / sight), *about(unit, ally), *last_action])
        return values * (unit.health > 0 and distance < sight)

    patients = {j: unit for j, unit in env.agents.items() if unit.unit_type != env.medivac_id}
    targets = patients if me.unit_type == env.medivac_id else env.enemies
    reach = [
        j in targets and targets[j].health > 0 and env.distance(*me.pos, *targets[j].pos) <= env.unit_shoot_range(agent)
        for j in env.enemies
    ]
    enemies = [row(unit, reach[j], ally=False) for j, unit in env.enemies.items()]
    last = env.last_action if env.obs_last_action else np.zeros([env.n_agents, 0])
    allies = [row(unit, 1, True, last[j]) for j, unit in env.agents.items() if j != agent]
    own = about(me, ally=True)
    if me.health == 0:
        moves, enemies, allies, own = (np.zeros_like(part) for part in (moves, enemies, allies, own))
    own = [*own, env._episode_steps / env.episode_limit] if env.obs_timestep_number else own
    assert env.get_obs_move_feats_size() == len(moves)
    assert env.get_obs_enemy_feats_size() == np.shape(enemies)
    assert env.get_obs_ally_feats_size() == np.shape(allies)
    assert env.get_obs_own_feats_size() == len(own)
    return np.concatenate([moves, *enemies, *allies, own])


@pytest.mark.parametrize(("map_name", "options"), [("2s3z", ALL_FLAGS), ("MMM", {})])
def test_observations_and_cooldowns_are_what_smacs_helpers_make_of_the_units(map_name, options):
    env, rng = StarCraft2Env(map_name, seed=2, **options), np.random.default_rng(0)
    env.reset()
    terminated, t = False, 0
    while not terminated:
        _, terminated, _ = env.step(random_actions(env, rng))
        t += 1
        if not terminated and t % 5:
            continue
        for agent in env.agents:
            np.testing.assert_allclose(env.get_obs_agent(agent), observation_by_hand(env, agent), atol=1e-5)
        for row, unit in zip(env.get_state_dict()["allies"], env.agents.values(), strict=True):
            left = (unit.energy or unit.weapon_cooldown) / env.unit_max_cooldown(unit)
            assert row[1] == pytest.approx(left if unit.health > 0 else 0, abs=1e-5)
    assert env.get_ally_num_attributes() == env.get_state_dict()["allies"].shape[1]
    assert env.get_enemy_num_attributes() == env.get_state_dict()["enemies"].shape[1]


def test_the_ground_is_told_as_smac_tells_it():
    env = StarCraft2Env("3m", seed=0, move_amount=2)
    env.reset()
    assert [env.check_bounds(*point) for point in ((0, 0), (31, 31), (-1, 5), (5, 32))] == [True, True, False, False]
    unit = dataclasses.replace(env.get_unit_by_id(0), pos=(corner := type(env.get_unit_by_id(0).pos)(0.5, 0.5)))
    points = [(0, 4), (0, -4), (4, 0), (-4, 0), (2, 2), (-2, -2), (2, -2), (-2, 2)]
    assert env.get_surrounding_points(unit) == points
    assert env.get_surrounding_points(unit, include_self=True) == [*points, (0, 0)]
    ground = env.pathing_grid
    assert env.get_surrounding_pathing(unit) == [ground[0, 4], True, ground[4, 0], True, ground[2, 2], True, True, True]
    assert env.distance(*corner, 3.5, 4.5) == 5
    with pytest.raises(NotImplementedError, match=r"heights .* game's files only"):
        env.get_surrounding_height(unit)


def test_an_action_is_an_order_in_the_games_words():
    env = StarCraft2Env("MMM", seed=0)
    env.reset()
    unit = env.get_unit_by_id(9)
    assert unit.unit_type == env.medivac_id
    near = next(j for j in range(9) if env.get_avail_agent_actions(9)[ATTACK + j])
    stop, north, heal = (env.get_agent_action(9, a).action_raw.unit_command for a in (STOP, NORTH, ATTACK + near))
    assert (stop.ability_id, stop.unit_tags, stop.queue_command) == (4, [unit.tag], False)
    assert (north.ability_id, north.target_world_space_pos) == (16, (unit.pos.x, unit.pos.y + 2))
    assert (heal.ability_id, heal.target_unit_tag) == (386, env.agents[near].tag)
    with pytest.raises(AssertionError, match="agent 9 cannot take action 0"):
        env.get_agent_action(9, NO_OP)


def test_medivacs_alone_are_told_as_smac_tells_it(monkeypatch):
    env = StarCraft2Env("MMM", seed=0)
    env.reset()

    def left(*living):
        units = env._facts.units.copy()
        units[2] = np.isin(np.arange(20), living)
        with monkeypatch.context() as patch:
            patch.setattr(env, "_facts", env._facts._replace(units=units))
            return env.only_medivac_left(ally=True), env.only_medivac_left(ally=False)

    ours = [unit.unit_type for unit in env.enemies.values()].index(env.medivac_id) + 10
    assert left(0, 9, 10, ours) == (False, False)
    assert left(9, ours) == (True, True)
    assert left() == (True, False)


def test_settings_can_be_read_under_smacs_names():
    env = StarCraft2Env("3m", reward_win=50, obs_own_health=False, difficulty="A", continuing_episode=True)
    assert (env.reward_win, env.obs_own_health, env.difficulty, env.continuing_episode) == (50, True, "A", True)
    assert (env.reward, env.n_actions_no_attack, env.n_actions_move, env.window_size) == (0, 6, 4, (1920, 1200))


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
    assert env.win_counted is True
    assert env.reward == rewards[-1]
    assert env.reward_battle() == pytest.approx(env.reward * env.max_reward / env.reward_scale_rate - env.reward_win)
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
    sparse = StarCraft2Env("3m", reward_sparse=True)
    sparse._facts = env._facts
    assert not sparse.death_tracker_ally.any()  # as in SMAC
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
    drawn = env._facts._replace(outcome=np.array([1.5, no_discount, last, False, 0.0], np.float32))
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


def states_of_a_game(env):
    """[T, S] of one episode in which everyone stops."""
    seen = [env.reset()[1]]
    play(env, lambda env: (seen.append(env.get_state()), [int(unit.health > 0) for unit in env.agents.values()])[1])
    return np.stack(seen)


def test_a_restart_begins_anew_with_the_seed_that_is_set_by_then():
    env = StarCraft2Env("3m", seed=3)
    of_3, of_5 = states_of_a_game(env), states_of_a_game(StarCraft2Env("3m", seed=5))
    env.full_restart()
    np.testing.assert_array_equal(states_of_a_game(env), of_3)
    env._seed = np.int64(5)  # as SMAC's PettingZoo wrapper does it
    env.full_restart()
    assert env.seed() == 5
    np.testing.assert_array_equal(states_of_a_game(env), of_5)
    env._seed = None
    env.full_restart()
    assert not np.array_equal(states_of_a_game(env)[:1], of_5[:1])


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("seed", [5, None])
def test_copies_play_on_alike_and_apart(copy_of, seed):
    unplayed = StarCraft2Env("3m", seed=seed)
    env = copy_of(unplayed)
    np.testing.assert_array_equal(env.reset()[1], unplayed.reset()[1])
    env.step([EAST] * 3)
    twin, before = copy_of(env), env.get_state()
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(2):
        ours = play(env, lambda env: random_actions(env, rng))
        assert ours == play(twin, lambda env: random_actions(env, again))
        assert env.get_stats() == twin.get_stats()
        np.testing.assert_array_equal(env.get_state(), twin.get_state())
    assert not np.array_equal(env.get_state(), before)


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
        ({"game_version": 4.10}, ValueError, "CombatEnv.game_version: .*string, not 4.1"),
        ({"replay_dir": "replays"}, ValueError, "CombatEnv.replay_dir: .*launch.evaluate --replay.*leave it ''"),
        ({"heuristic_ai": True}, ValueError, "CombatEnv.heuristic_ai: .*leave it False"),
        ({"debug": "yes"}, ValueError, "CombatEnv.debug: .*boolean, not 'yes'"),
    ],
)
def test_arguments_that_cannot_be_are_refused_in_one_line(arguments, error, says):
    with pytest.raises(error, match=says) as refusal:
        StarCraft2Env(**arguments)
    assert "\n" not in str(refusal.value)


def test_harmless_arguments_of_the_game_are_taken():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = StarCraft2Env("3m", difficulty="A", window_size_x=800, window_size_y=600, replay_dir=None, step_mul=None)
    assert env._program is StarCraft2Env("3m", step_mul=8)._program
    assert env.window_size == (800, 600)


@pytest.mark.parametrize("argument", [{"game_version": "4.10"}, {"heuristic_rest": True}, {"debug": True}])
def test_arguments_without_effect_are_taken_with_a_warning(argument):
    with pytest.warns(UserWarning, match=f"CombatEnv.{next(iter(argument))}: .*changes nothing") as told:
        env = StarCraft2Env("3m", **argument)
    assert told[0].filename == __file__
    assert env._program is StarCraft2Env("3m")._program
    assert vars(env).items() >= argument.items()


def test_numpys_scalars_are_numbers():
    env = StarCraft2Env("3m", np.int32(4), np.float32(1.5), seed=np.uint32(3), reward_sparse=np.bool_(True))
    assert env._program is StarCraft2Env("3m", step_mul=4, move_amount=1.5, reward_sparse=True)._program
    assert env.seed() == 3


SMACS_ARGUMENTS = """
    map_name step_mul move_amount difficulty game_version seed continuing_episode obs_all_health obs_own_health
    obs_last_action obs_pathing_grid obs_terrain_height obs_instead_of_state obs_timestep_number state_last_action
    state_timestep_number reward_sparse reward_only_positive reward_death_value reward_win reward_defeat
    reward_negative_scale reward_scale reward_scale_rate replay_dir replay_prefix window_size_x window_size_y
    heuristic_ai heuristic_rest debug
"""


def test_arguments_can_be_given_by_position_in_smacs_order():
    values = ["3m", 4, 1.5, "A", None, 7, True, False, True, True, True, False, True, True, False, True, False, False]
    values += [5.0, 100.0, -50.0, 0.25, False, 10.0, "", "", 800, 600, False, False, False]
    by_name = StarCraft2Env(**dict(zip(SMACS_ARGUMENTS.split(), values, strict=True)))
    by_position = StarCraft2Env(*values)
    assert by_position._program is by_name._program
    told, expected = (
        {name: value for name, value in vars(env).items() if isinstance(value, str | int | float | tuple | None)}
        for env in (by_position, by_name)
    )
    assert told == expected
    assert {"seed": told["_seed"], "size": told["window_size"]} == {"seed": 7, "size": (800, 600)}
    with pytest.raises(TypeError, match="31 arguments, not 32"):
        StarCraft2Env(*values, True)
    with pytest.raises(TypeError, match="by position and by name: step_mul"):
        StarCraft2Env("3m", 8, step_mul=8)


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
        assert getattr(env._program.world.options, option) == other


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
