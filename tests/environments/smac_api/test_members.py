"""What SMAC's environment has is here, and what its helpers tell is what SMAC's tell."""

import ast
import dataclasses
import inspect
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tf_marl.environments.smac_api import CombatEnv as StarCraft2Env
from tf_marl.environments.smac_api import Direction

NO_OP, STOP, NORTH, ATTACK = 0, 1, 2, 6
SMAC = os.environ.get("TF_MARL_SMAC")  # a checkout of its repository
needs_smac = pytest.mark.skipif(not SMAC, reason="TF_MARL_SMAC names no checkout of smac")


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
    # SMAC has no public name for the steps of an episode, and code for it reads this one.
    own = [*own, env._episode_steps / env.episode_limit] if env.obs_timestep_number else own
    assert env.get_obs_move_feats_size() == len(moves)
    assert env.get_obs_enemy_feats_size() == np.shape(enemies)
    assert env.get_obs_ally_feats_size() == np.shape(allies)
    assert env.get_obs_own_feats_size() == len(own)
    return np.concatenate([moves, *enemies, *allies, own])


@pytest.mark.parametrize(
    ("map_name", "options"),
    [("2s3z", "all"), pytest.param("MMM", "none", marks=pytest.mark.slow)],
    indirect=["options"],
)
def test_observations_and_cooldowns_are_what_smacs_helpers_make_of_the_units(map_name, options, random_actions):
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
        units = env.facts.units.copy()
        units[2] = np.isin(np.arange(20), living)
        with monkeypatch.context() as patch:
            patch.setattr(env, "facts", env.facts._replace(units=units))
            return env.only_medivac_left(ally=True), env.only_medivac_left(ally=False)

    ours = [unit.unit_type for unit in env.enemies.values()].index(env.medivac_id) + 10
    assert left(0, 9, 10, ours) == (False, False)
    assert left(9, ours) == (True, True)
    assert left() == (True, False)


def test_settings_can_be_read_under_smacs_names():
    env = StarCraft2Env("3m", reward_win=50, obs_own_health=False, difficulty="A", continuing_episode=True)
    assert (env.reward_win, env.obs_own_health, env.difficulty, env.continuing_episode) == (50, True, "A", True)
    assert (env.reward, env.n_actions_no_attack, env.n_actions_move, env.window_size) == (0, 6, 4, (1920, 1200))
