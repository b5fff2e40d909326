"""What SMAC's own methods make of our battles beside what ours tell: python smacs_methods.py MAP OPTIONS_AS_JSON

Plays at random and compares at every step; needs `smac` and pysc2, but no game.
"""

import json
import sys
import types

import numpy as np
from smac.env import StarCraft2Env as SMACs

from tf_marl.environments.smac_api import CombatEnv, Direction

STEPS = 150
OF_SIZES = [
    *(f"get_obs_{part}_feats_size" for part in ("move", "enemy", "ally", "own")),
    *("get_obs_size", "get_state_size", "get_ally_num_attributes", "get_enemy_num_attributes"),
]
OF_BATTLES = ["get_obs", "get_state", "get_state_dict", "get_avail_actions", "get_visibility_matrix"]
OF_AGENTS = ["get_obs_agent", "get_avail_agent_actions", "unit_shoot_range", "unit_sight_range"]
OF_UNITS = ["unit_max_cooldown", "unit_max_shield", "get_surrounding_points", "get_surrounding_pathing"]

env = CombatEnv(sys.argv[1], seed=3, **json.loads(sys.argv[2]))
env._move_amount = 2  # as SMAC calls it
rng = np.random.default_rng(0)


def compare(name, *arguments):
    ours, smacs = getattr(env, name)(*arguments), getattr(SMACs, name)(env, *arguments)
    if isinstance(smacs, dict):
        assert ours.keys() == smacs.keys()
        ours, smacs = list(ours.values()), list(smacs.values())
    for our, smac in zip(ours, smacs, strict=True) if isinstance(smacs, list) else [(ours, smacs)]:
        np.testing.assert_allclose(np.array(our, float), np.array(smac, float), atol=1e-5, err_msg=name)


def compare_action(agent, action):
    ours, smacs = env.get_agent_action(agent, action), SMACs.get_agent_action(env, agent, action)
    assert (ours is None) == (smacs is None)
    if ours is not None:
        our, smac = ours.action_raw.unit_command, smacs.action_raw.unit_command
        assert (our.ability_id, our.unit_tags, our.queue_command) == (smac.ability_id, smac.unit_tags, False)
        assert (our.target_unit_tag or 0) == smac.target_unit_tag
        place = smac.target_world_space_pos
        np.testing.assert_allclose(our.target_world_space_pos or (0, 0), (place.x, place.y), rtol=1e-6)


for name in OF_SIZES:
    compare(name)
env.reset()
for _ in range(STEPS):
    for units in (env.agents, env.enemies):
        for unit in units.values():
            for name in OF_UNITS:
                compare(name, unit)
            compare("get_surrounding_points", unit, True)
            for direction in Direction:
                compare("can_move", unit, direction)
            if units is env.enemies and env.unit_type_bits:  # the agents' ids are others in the game
                compare("get_unit_type_id", unit, False)
    compare("only_medivac_left", True)
    medivac, env.medivac_id = env.medivac_id, 1  # likewise
    compare("only_medivac_left", False)
    env.medivac_id = medivac
    for name in OF_BATTLES:
        compare(name)
    actions = [int(rng.choice(np.flatnonzero(available))) for available in env.get_avail_actions()]
    for agent, action in enumerate(actions):
        compare_action(agent, action)
        for name in OF_AGENTS:
            compare(name, agent)
    before = types.SimpleNamespace(
        previous_ally_units=env.agents,
        previous_enemy_units=env.enemies,
        death_tracker_ally=env.death_tracker_ally,
        death_tracker_enemy=env.death_tracker_enemy,
    )
    terminated = env.step(actions)[1]
    settings = {name: value for name, value in vars(env).items() if name.startswith("reward_")}
    battle = types.SimpleNamespace(**vars(before), **settings, agents=env.agents, enemies=env.enemies)
    np.testing.assert_allclose(env.reward_battle(), SMACs.reward_battle(battle), atol=1e-3)
    if terminated:
        env.reset()
assert env.battles_game > 0
