"""SMACv2's wrapper: what it draws, what it tells, and what it refuses."""

import copy
import pickle

import numpy as np
import pytest

from tf_marl.environments.smac_api import CombatEnv, StarCraftCapabilityEnvWrapper

RACES = {
    "protoss": ["stalker", "zealot", "colossus"],
    "terran": ["marine", "marauder", "medivac"],
    "zerg": ["zergling", "baneling", "hydralisk"],  # in the order of SMACv2's own settings
}
WEIGHTS = {"colossus": 0.1, "medivac": 0.1, "baneling": 0.1}


def config(race="terran", n_units=5, n_enemies=5, start=None, **team):
    types = RACES[race]
    return {
        "n_units": n_units,
        "n_enemies": n_enemies,
        "team_gen": {
            "dist_type": "weighted_teams",
            "unit_types": types,
            "weights": [WEIGHTS.get(name, 0.45) for name in types],
            "exception_unit_types": [name for name in types if name in ("medivac", "baneling")],
            "observe": True,
        }
        | team,
        "start_positions": {"dist_type": "surrounded_and_reflect", "p": 0.5, "map_x": 32, "map_y": 32} | (start or {}),
    }


def make(race="terran", **options):
    capabilities = options.pop("capability_config", config(race))
    return StarCraftCapabilityEnvWrapper(map_name=f"10gen_{race}", capability_config=capabilities, **options)


@pytest.mark.parametrize(("race", "obs", "state"), [("protoss", 92, 130), ("terran", 82, 120), ("zerg", 82, 120)])
def test_sizes_and_names_are_smacv2s(race, obs, state):
    env = make(race)
    info = env.get_env_info()
    assert (info["obs_shape"], info["state_shape"], info["n_actions"], info["episode_limit"]) == (obs, state, 11, 200)
    assert len(env.get_obs_feature_names()) == obs
    assert len(env.get_state_feature_names()) == state
    assert env.get_obs_feature_names()[-5:] == ["own_pos_x", "own_pos_y", *(f"own_unit_type_bit_{k}" for k in range(3))]
    assert env.n_actions_no_attack == 6
    assert env.max_reward == 250
    looking = make(race, conic_fov=True)
    assert looking.get_total_actions() == 11 + 12
    assert len(looking.get_obs_feature_names()) == looking.get_obs_size() == obs + 2
    assert len(looking.get_state_feature_names()) == looking.get_state_size() == state + 5 * (2 + 12)


def test_equal_settings_are_one_program_and_smacv2s_are_those_of_the_name():
    assert make("zerg").program is make("zerg").program
    ours, named = (env.program.world.scenario.lottery for env in (make("zerg"), CombatEnv("zerg_5_vs_5")))
    for field in ("num_agents", "num_enemies", "types", "weights", "exceptions", "surrounded", "map_size"):
        assert getattr(ours, field) == getattr(named, field)


@pytest.mark.parametrize(
    ("map_name", "capabilities", "message"),
    [
        ("3m", config(), "map_name: with capability_config, use one of 10gen_protoss"),
        ("10gen_terran", config() | {"attack": {}}, "capability_config: attack"),
        ("10gen_terran", {"n_units": 5}, "capability_config: n_enemies: it is missing"),
        ("10gen_terran", config(dist_type="all_teams"), r"team_gen\.dist_type: use 'weighted_teams'"),
        ("10gen_terran", config(observe=False), r"team_gen\.observe"),
        ("10gen_protoss", config("terran"), r"team_gen\.unit_types: marauder, marine, medivac not among stalker"),
        ("10gen_terran", config(start={"dist_type": "fixed"}), r"start_positions\.dist_type: use one of"),
        ("10gen_terran", config(start={"map_x": 64}), r"start_positions\.map_x"),
        ("10gen_terran", config(weights=[0.9, 0.9, 0.1]), "add up to 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(map_name, capabilities, message):
    with pytest.raises(ValueError, match=message) as refused:
        StarCraftCapabilityEnvWrapper(map_name=map_name, capability_config=capabilities)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_battles_are_drawn_and_told_as_smacv2_does():
    env = make("terran", seed=3)
    teams, scales = set(), set()
    for _ in range(6):
        obs, state = env.reset()
        assert len(obs) == 5
        assert state.shape == (120,)
        types = env.get_unit_types()
        teams.add(tuple(types))
        scales.add(env.max_reward)
        assert sorted(types[:5]) == sorted(types[5:])
        assert types[:5] == sorted(types[:5], key=[env.marauder_id, env.marine_id, env.medivac_id].index)
        for agent, unit in env.agents.items():
            kind = env.get_unit_type_id(unit, True)
            assert env.get_capabilities_agent(agent).tolist() == obs[agent][-3:].tolist() == np.eye(3)[kind].tolist()
            np.testing.assert_allclose(obs[agent][-5:-3], [unit.pos.x / 32, unit.pos.y / 32], rtol=1e-6)
            assert env.unit_shoot_range(agent) == {0: 5, 1: 6, 2: 4}[kind]
            assert env.unit_sight_range(agent) == {0: 9, 1: 10, 2: 11}[kind]
        terminated = False
        while not terminated:
            legal = [np.flatnonzero(agent).tolist() for agent in env.get_avail_actions()]
            assert env.get_avail_agent_actions(0) == env.get_true_avail_agent_actions(0)
            reward, terminated, info = env.step([actions[-1] for actions in legal])
            assert reward >= 0
        assert {"battle_won", "dead_allies", "dead_enemies"} <= set(info)
    assert len(teams) > 1
    assert len(scales) == 1  # the first episode's
    twin = pickle.loads(pickle.dumps(env))
    assert (copy.deepcopy(env).reset()[1] == twin.reset()[1]).all()
