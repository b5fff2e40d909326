"""Maps: SMAC's own registry, and what is in its map files, value by value."""

import collections

import numpy as np
import pytest

import tf_marl
from tf_marl.environments.combat.environment import Combat
from tf_marl.environments.combat.scenarios import MAP_SIZE, map_names, scenario

PROTOSS = {"stalker", "zealot", "colossus"}
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
    world = Combat(battle, 1)
    observation = world.time_step_spec.observation
    assert (
        battle.num_agents,
        battle.num_enemies,
        battle.episode_limit,
        world.task.num_actions,
        observation["obs"].shape[1],
        observation["state"].shape[0],
        world.task.max_reward,
    ) == SIZES[map_name]
    assert observation["avail_actions"].shape == (battle.num_agents, world.task.num_actions)
    assert observation["alive"].shape == (battle.num_agents,)
    # What the world makes has the sizes it promises.
    made = world.time_step(world.reset([0, 0])).observation
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
    # The first four round a point stand a little nearer to it than they may: they are pushed apart at once.
    assert gap[pairs].min(initial=1.0) >= -0.08 * 2 * 0.625 - 1e-6
    assert battle.pathable[tuple(places.astype(int).T)].all()
    assert (np.abs(places - MAP_SIZE / 2) < MAP_SIZE / 2).all()


def steps_from_the_point(map_name: str, point: tuple[float, float], own: bool) -> set[tuple[int, int]]:
    """Where on the lattice round its point a team of one type stands."""
    battle = scenario(map_name)
    places = battle.spawn[: battle.num_agents] if own else battle.spawn[battle.num_agents :]
    return {tuple(np.rint((place - point) / (2 * battle.units[0].radius)).astype(int).tolist()) for place in places}


def test_teams_spawn_on_a_lattice_nearest_first_and_counter_clockwise_from_the_south():
    """As recordings of the game show, and not mirrored: the third marine stands east of its point on either side."""
    cross = {(0, 0), (0, -1), (1, 0), (0, 1), (-1, 0)}
    square = cross | {(1, -1), (1, 1), (-1, 1), (-1, -1)}
    for point, own in ((LEFT, True), (RIGHT, False)):
        assert steps_from_the_point("3m", point, own) == {(0, 0), (0, -1), (1, 0)}
        assert steps_from_the_point("8m", point, own) == square - {(-1, -1)}  # the last corner
    assert steps_from_the_point("10m_vs_11m", RIGHT, False) == square | {(0, -2), (2, 0)}
    far = {(2, -2), (2, 2), (-2, 2), (-2, -2), (0, -3), (3, 0), (0, 3), (-3, 0), (1, -3)}
    five_by_five = {(x, y) for x in range(-2, 3) for y in range(-2, 3)}
    assert steps_from_the_point("27m_vs_30m", RIGHT, False) == five_by_five | far


def test_neighbours_on_the_lattice_are_a_diameter_apart():
    battle = scenario("27m_vs_30m")
    x = np.unique(battle.spawn[27:, 0].round(6))
    assert np.diff(x).max() == pytest.approx(1.02 * 0.75)
    assert 23.0 + 0.92 * 0.75 in x.tolist()  # the four round the point are a little nearer


def test_enemies_keep_the_formation_they_spawn_in():
    battle = scenario("MMM2")
    np.testing.assert_allclose(battle.formation.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(battle.formation - battle.formation[0], battle.spawn[10:] - battle.spawn[10])


LEFT, RIGHT = (9, 16), (23, 16)
M, STALKERS_ZEALOTS = ("marauder", "marine", "medivac"), ("stalker", "zealot")

# map: SMAC's map type, terrain, agents and enemies in the order in which the map creates them, (count, unit, point)
ROSTERS = {
    "3m": ("marines", "band16", [(3, "marine", LEFT)], [(3, "marine", RIGHT)]),
    "8m": ("marines", "band16", [(8, "marine", LEFT)], [(8, "marine", RIGHT)]),
    "25m": ("marines", "band16", [(25, "marine", LEFT)], [(25, "marine", RIGHT)]),
    "5m_vs_6m": ("marines", "band16", [(5, "marine", LEFT)], [(6, "marine", RIGHT)]),
    "8m_vs_9m": ("marines", "band16", [(8, "marine", LEFT)], [(9, "marine", RIGHT)]),
    "10m_vs_11m": ("marines", "band16", [(10, "marine", LEFT)], [(11, "marine", RIGHT)]),
    "27m_vs_30m": ("marines", "band16", [(27, "marine", LEFT)], [(30, "marine", RIGHT)]),
    "MMM": (
        *("MMM", "band16"),
        [(7, "marine", LEFT), (2, "marauder", LEFT), (1, "medivac", LEFT)],
        [(7, "marine", RIGHT), (2, "marauder", RIGHT), (1, "medivac", RIGHT)],
    ),
    "MMM2": (
        *("MMM", "band16"),
        [(7, "marine", LEFT), (2, "marauder", LEFT), (1, "medivac", LEFT)],
        [(8, "marine", RIGHT), (3, "marauder", RIGHT), (1, "medivac", RIGHT)],
    ),
    "2s3z": (
        *("stalkers_and_zealots", "band16"),
        [(2, "stalker", LEFT), (3, "zealot", LEFT)],
        [(2, "stalker", RIGHT), (3, "zealot", RIGHT)],
    ),
    "3s5z": (
        *("stalkers_and_zealots", "band16"),
        [(3, "stalker", LEFT), (5, "zealot", LEFT)],
        [(3, "stalker", RIGHT), (5, "zealot", RIGHT)],
    ),
    "3s5z_vs_3s6z": (
        *("stalkers_and_zealots", "band16"),
        [(3, "stalker", LEFT), (5, "zealot", LEFT)],
        [(3, "stalker", RIGHT), (6, "zealot", RIGHT)],
    ),
    "3s_vs_3z": ("stalkers", "open", [(3, "stalker", LEFT)], [(3, "zealot", RIGHT)]),
    "3s_vs_4z": ("stalkers", "open", [(3, "stalker", LEFT)], [(4, "zealot", RIGHT)]),
    "3s_vs_5z": ("stalkers", "open", [(3, "stalker", LEFT)], [(5, "zealot", RIGHT)]),
    "1c3s5z": (
        *("colossi_stalkers_zealots", "band16"),
        [(1, "colossus", LEFT), (3, "stalker", LEFT), (5, "zealot", LEFT)],
        [(1, "colossus", RIGHT), (3, "stalker", RIGHT), (5, "zealot", RIGHT)],
    ),
    "2m_vs_1z": ("marines", "octagon", [(1, "marine", (13, 12)), (1, "marine", (19, 12))], [(1, "zealot", (16, 19))]),
    "corridor": ("zealots", "corridor", [(6, "zealot", (19.0397, 19.1198))], [(24, "zergling", (27.91, 28.24))]),
    "6h_vs_8z": ("hydralisks", "box", [(6, "hydralisk", (14.5998, 9.49))], [(8, "zealot", (14.41, 16.7597))]),
    "2s_vs_1sc": (
        *("stalkers", "pentagon"),
        [(1, "stalker", (11.1208, 10.338)), (1, "stalker", (16.976, 10.3662))],
        [(1, "spine_crawler", (13.92, 20.0397))],
    ),
    "so_many_baneling": (
        *("zealots", "staircase"),
        [(7, "zealot", (11.469, 12.0234))],
        [(32, "baneling", (27.91, 28.24))],
    ),
    "bane_vs_bane": (
        *("bane", "octagon"),
        [(20, "zergling", (16, 11)), (4, "baneling", (16, 8))],
        [(20, "zergling", (16, 21)), (4, "baneling", (16, 24))],
    ),
    "2c_vs_64zg": (
        *("colossus", "ravine"),
        [(1, "colossus", (16, 16)), (1, "colossus", (16, 16))],
        [(64, "zergling", (16, 9))],
    ),
}

# terrain: pathable cells of each row from y = 31 down to y = 0
PATHABLE = {
    "band16": [0] * 7 + [32] * 18 + [0] * 7,
    "ravine": [0] * 11 + [16, 18, 20, 30, 32, 32, 32, 26, 8, 32, 32, 32, 30, 28, 26, 24] + [0] * 5,
    "octagon": [0] * 5 + [12, 14, 16, 18, 20] + [22] * 12 + [20, 18, 16, 14, 12] + [0] * 5,
    "pentagon": [0] * 7 + [4, 6, 8, 10, 12] + [14] * 12 + [12] + [0] * 7,
    "open": [32] * 32,
    "box": [0] * 11 + [10, 12, 14] + [16] * 8 + [14, 12, 10] + [0] * 7,
    "corridor": [0, 10, *range(12, 20), *[20] * 4, 18, 16, 15, 15, 15, 13, 13, *[12] * 9, 10, 0],
    "staircase": [
        *[0, 8, 10, 11, 12, 12, 12, 15, 16, 17, 17, 14, 14, 17, 17, 13],
        *[14, 14, 14, 17, 17, 14, 14, 15, 15, 12, 12, 12, 11, 8, 6, 0],
    ],
}
CELLS = {  # in all, as the map files' cliff layers give them
    "band16": 576,
    "ravine": 418,
    "octagon": 424,
    "pentagon": 220,
    "open": 1024,
    "box": 200,
    "corridor": 437,
    "staircase": 400,
}


@pytest.mark.parametrize("map_name", SIZES)
def test_teams_spawn_round_their_points(map_name):
    """The places of each call are spread evenly: their mean is near the point, and they are near one another."""
    battle = scenario(map_name)
    map_type, _, *sides = ROSTERS[map_name]
    assert battle.map_type == map_type
    for units, places, calls in zip(
        (battle.agents, battle.enemies),
        (battle.spawn[: battle.num_agents], battle.spawn[battle.num_agents :]),
        sides,
        strict=True,
    ):
        wanted = collections.Counter()
        for count, unit, _ in calls:
            wanted[unit] += count
        assert collections.Counter(unit.name for unit in units) == wanted
        for point in {point for *_, point in calls}:
            kinds = {unit for _, unit, its_point in calls if its_point == point}
            number = sum(count for count, _, its_point in calls if its_point == point)
            there = np.array([p for u, p in zip(units, places, strict=True) if u.name in kinds])
            there = there[np.argsort(np.hypot(*(there - point).T))][:number]
            area = sum(np.pi * (u.separation_radius + 0.06) ** 2 for u in units if u.name in kinds)
            # A disc packed half full, or a half disc where the ground ends.
            assert np.hypot(*(there - point).T).max() <= 1 + np.sqrt(area / np.pi / 0.5) * np.sqrt(2)
            assert np.hypot(*(there.mean(0) - point)) < 1.0


def test_enemies_are_listed_in_the_order_of_their_creation():
    for map_name, (*_, calls) in ROSTERS.items():
        listed = [unit for count, unit, _ in calls for _ in range(count)]
        assert [unit.name for unit in scenario(map_name).enemies] == listed, map_name


@pytest.mark.parametrize(
    ("map_name", "expected"),
    [
        ("MMM", ["marauder"] * 2 + ["marine"] * 7 + ["medivac"]),
        ("MMM2", ["marauder"] * 2 + ["marine"] * 7 + ["medivac"]),
        ("2s3z", ["stalker"] * 2 + ["zealot"] * 3),
        ("3s5z_vs_3s6z", ["stalker"] * 3 + ["zealot"] * 5),
        ("1c3s5z", ["colossus"] + ["stalker"] * 3 + ["zealot"] * 5),
        ("bane_vs_bane", ["baneling"] * 4 + ["zergling"] * 20),
        ("25m", ["marine"] * 25),
    ],
)
def test_agents_are_numbered_by_type_then_x_then_y(map_name, expected):
    battle = scenario(map_name)
    assert [unit.name for unit in battle.agents] == expected
    places = [tuple(place) for place in battle.spawn[: battle.num_agents]]
    for kind in set(expected):
        of_kind = [place for unit, place in zip(battle.agents, places, strict=True) if unit.name == kind]
        assert of_kind == sorted(of_kind)


ORDERS = {  # where enemies attack-move: a point, or between two; None: no order; "agents": them, wherever they are
    "2m_vs_1z": ((13, 12), (19, 12)),
    "corridor": ((4.47, 4.3298),) * 2,
    "so_many_baneling": ((4.47, 4.3298),) * 2,
    "6h_vs_8z": ((14.5998, 9.49),) * 2,
    "bane_vs_bane": ((16, 8),) * 2,
    "2s_vs_1sc": None,
    "2c_vs_64zg": "agents",
}


@pytest.mark.parametrize("map_name", SIZES)
def test_enemies_have_the_maps_order(map_name):
    battle = scenario(map_name)
    order = ORDERS.get(map_name, (LEFT, LEFT))
    if order is None or order == "agents":
        assert battle.enemy_order == ("none" if order is None else "attack")
        assert battle.attack_segment is None
    else:
        assert battle.enemy_order == "attack_move"
        np.testing.assert_array_equal(battle.attack_segment, order)


TYPE_BITS = {  # of the agents and of the enemies, which SMAC reverses on stalker and zealot maps
    "MMM": (M, M),
    "MMM2": (M, M),
    "2s3z": (STALKERS_ZEALOTS, STALKERS_ZEALOTS[::-1]),
    "3s5z": (STALKERS_ZEALOTS, STALKERS_ZEALOTS[::-1]),
    "3s5z_vs_3s6z": (STALKERS_ZEALOTS, STALKERS_ZEALOTS[::-1]),
    "1c3s5z": (("colossus", "stalker", "zealot"),) * 2,
    "bane_vs_bane": (("baneling", "zergling"),) * 2,
}


@pytest.mark.parametrize("map_name", SIZES)
def test_type_bits_and_shield_bits_are_smacs(map_name):
    battle = scenario(map_name)
    assert (battle.agent_type_bits, battle.enemy_type_bits) == TYPE_BITS.get(map_name, ((), ()))
    # Shields are shown of Protoss, a side at a time.
    assert battle.agent_shields == (battle.agents[0].name in PROTOSS)
    assert battle.enemy_shields == (battle.enemies[0].name in PROTOSS)
    for unit in battle.units:
        assert (unit.race == "P") == (unit.shield_points > 0) == (unit.name in PROTOSS)


@pytest.mark.parametrize("map_name", SIZES)
def test_ground_is_the_map_files(map_name):
    battle, terrain = scenario(map_name), ROSTERS[map_name][1]
    assert battle.pathable.shape == battle.cliffs.shape == (32, 32)
    assert battle.pathable[:, ::-1].sum(0).tolist() == PATHABLE[terrain]
    assert battle.pathable.sum() == CELLS[terrain] == sum(PATHABLE[terrain])
    assert not (battle.pathable & battle.cliffs).any()
    assert battle.cliffs.any() == (map_name == "2c_vs_64zg")


def test_cliff_of_2c_vs_64zg_lies_where_the_map_file_has_it():
    """The plateau is y 13 to 20; its edge to the south is row y = 12, from x = 4 to 27; ramps lead up at the sides."""
    battle = scenario("2c_vs_64zg")
    assert battle.cliffs[4:28, 12].all()
    assert battle.pathable[[*range(4), *range(28, 32)], 12].all()
    assert battle.pathable[:, [11, 14]].all()
    assert battle.pathable[7:25, 13:19].all()


def test_unknown_map_lists_the_known():
    with pytest.raises(ValueError, match=r"unknown map '4m'.*3m.*2m_vs_1z"):
        scenario("4m")
