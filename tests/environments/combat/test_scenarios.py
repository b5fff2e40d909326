"""Sizes of every map, as SMAC's own registry reports them."""

import numpy as np
import pytest

import tf_marl
from tf_marl.environments.combat.environment import Combat
from tf_marl.environments.combat.scenarios import MAP_SIZE, SPAWN_JITTER, map_names, scenario

# map: agents, enemies, episode limit, actions, obs, state, max reward
SIZES = {
    "3m": (3, 3, 60, 9, 30, 48, 365),
    "8m": (8, 8, 120, 14, 80, 168, 640),
    "25m": (25, 25, 150, 31, 250, 950, 1575),
    "5m_vs_6m": (5, 6, 70, 12, 55, 98, 530),
    "8m_vs_9m": (8, 9, 120, 15, 85, 179, 695),
    "10m_vs_11m": (10, 11, 150, 17, 105, 243, 805),
    "27m_vs_30m": (27, 30, 180, 36, 285, 1170, 1850),
    "MMM": (10, 10, 150, 16, 160, 290, 1015),
    "MMM2": (10, 12, 180, 18, 176, 322, 1205),
    "2s3z": (5, 5, 120, 11, 80, 120, 1020),
    "3s5z": (8, 8, 150, 14, 128, 216, 1510),
    "3s5z_vs_3s6z": (8, 9, 170, 15, 136, 230, 1670),
    "3s_vs_3z": (3, 3, 150, 9, 36, 54, 680),
    "3s_vs_4z": (3, 4, 200, 10, 42, 61, 840),
    "3s_vs_5z": (3, 5, 250, 11, 48, 68, 1000),
    "1c3s5z": (9, 9, 180, 15, 162, 270, 1870),
    "2m_vs_1z": (2, 1, 150, 7, 16, 26, 360),
    "corridor": (6, 24, 400, 30, 156, 282, 1280),
    "6h_vs_8z": (6, 8, 150, 14, 78, 140, 1480),
    "2s_vs_1sc": (2, 1, 300, 7, 17, 27, 510),
    "so_many_baneling": (7, 32, 100, 38, 202, 397, 1480),
    "bane_vs_bane": (24, 24, 200, 30, 336, 984, 1260),
    "2c_vs_64zg": (2, 64, 400, 70, 332, 342, 3080),
}


def test_all_maps_are_there():
    assert set(map_names()) == set(SIZES) == set(tf_marl.environments.map_names())


@pytest.mark.parametrize("map_name", SIZES)
def test_sizes_equal_smacs(map_name):
    battle = scenario(map_name)
    core = Combat(battle, 1)
    observation = core.time_step_spec.observation
    assert (
        battle.num_agents,
        battle.num_enemies,
        battle.episode_limit,
        battle.num_actions,
        observation["obs"].shape[1],
        observation["state"].shape[0],
        core.task.max_reward,
    ) == SIZES[map_name]
    assert observation["avail_actions"].shape == (battle.num_agents, battle.num_actions)
    assert observation["alive"].shape == (battle.num_agents,)
    # What the core makes has the sizes it promises.
    made = core.time_step(core.reset([0, 0])).observation
    assert {name: leaf.shape[1:] for name, leaf in made.items()} == {n: spec.shape for n, spec in observation.items()}


@pytest.mark.parametrize("map_name", SIZES)
def test_units_spawn_apart_on_pathable_ground_round_their_points(map_name):
    battle = scenario(map_name)
    places = battle.spawn
    separation = np.array([unit.separation_radius for unit in battle.units])
    side = np.arange(len(places)) < battle.num_agents
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    gap = distance - separation[:, None] - separation[None]
    flies = np.array([unit.flies for unit in battle.units])
    pairs = ~np.eye(len(places), dtype=bool) & (side[:, None] == side[None]) & (flies[:, None] == flies[None])
    assert gap[pairs].min(initial=1.0) > 2 * SPAWN_JITTER
    assert battle.pathable[tuple(places.astype(int).T)].all()
    assert (np.abs(places - MAP_SIZE / 2) < MAP_SIZE / 2).all()


def test_equal_teams_mirror_each_other():
    battle = scenario("8m")
    mirrored = battle.spawn[:8] * [-1, 1] + [32, 0]
    assert {tuple(place) for place in mirrored} == {tuple(place) for place in battle.spawn[8:]}


def test_agents_are_sorted_by_type_then_place():
    battle = scenario("3s5z")
    assert [unit.name for unit in battle.agents] == ["stalker"] * 3 + ["zealot"] * 5
    for group in (battle.spawn[:3], battle.spawn[3:8]):
        assert [tuple(place) for place in group] == sorted(tuple(place) for place in group)


def test_unknown_map_lists_the_known():
    with pytest.raises(ValueError, match=r"unknown map '4m'.*3m.*2m_vs_1z"):
        scenario("4m")
