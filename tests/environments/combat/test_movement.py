"""Who walks where, by worked battles: what happens, how much, and to whom.

A game second is 16 game loops, an env step 8. Ranges are edge to edge: from centre to centre they end at the range
plus both radii. Radii: marine, zergling, baneling 0.375; zealot 0.5; marauder 0.5625; stalker, hydralisk 0.625;
medivac 0.75; spine crawler 0.875; colossus 1.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.compile import graph
from tf_marl.environments.combat.environment import Combat
from tf_marl.environments.combat.scenarios import scenario

STOP, NORTH, SOUTH, EAST = 1, 2, 3, 4
SECOND, STEP = 16, 8  # game loops


# Crowds


def test_melee_units_come_round_those_in_front(zoo):
    """Of four zerglings in a file, the first stands; the others find places beside it and hit as well."""
    others = ["enemy zergling", "enemy zergling 2", "enemy zergling 3", "enemy zergling 4"]
    places = {name: (11.2 + 0.8 * i, 10) for i, name in enumerate(others)}
    state = zoo.play(zoo.start({"zealot": (10, 10)} | places), loops=4 * SECOND)
    distance = [np.hypot(zoo.unit(state, name).x - 10, zoo.unit(state, name).y - 10) for name in others]
    assert max(distance) < 0.1 + 0.5 + 0.375 + 0.01  # all are in reach


def test_who_stands_is_not_pushed_aside(zoo):
    state = zoo.start({"marine": (10, 10), "zealot": (13, 10), "enemy zergling": (7, 10)})
    state = zoo.play(state, {"marine": EAST}, loops=4 * STEP)
    assert zoo.unit(state, "zealot").x == pytest.approx(13, abs=0.02)
    assert zoo.unit(state, "zealot").y == pytest.approx(10, abs=0.02)


# Cliffs


def ravine(map_arena, colossi, zerglings):
    """2c_vs_64zg with the colossi there, and zerglings there instead of 64."""
    ring = map_arena("2c_vs_64zg")
    places = np.full([66, 2], 1.5)
    places[:2], places[2 : 2 + len(zerglings)] = colossi, zerglings
    health = [200.0] * 2 + [35.0] * len(zerglings) + [0.0] * (64 - len(zerglings))
    return ring, ring.start(places, health=health)


def test_colossi_cross_the_cliff_that_zerglings_walk_round(map_arena):
    """The cliff's foot is row y = 12, blocked from x = 4 to 27; the plateau is north of it."""
    ring, state = ravine(map_arena, [(15.5, 14.2), (18.5, 14.2)], [(2.5, 9.5)])
    assert state.available.numpy()[0, SOUTH, 0]  # the probe at y = 13.2 is on the plateau
    state = ring.step(state, [SOUTH, STOP])
    assert 12 < state.units.y[0, 0] < 13.1  # 14.2 - 1.125: on the cliff's edge, its centre not yet beyond
    ring, state = ravine(map_arena, [(15.5, 13.3), (18.5, 16)], [(2.5, 9.5)])
    # From y = 13.3 the probe cell (15, 12) is cliff, so the move south is masked though the colossus could walk.
    assert not state.available.numpy()[0, SOUTH, 0]
    assert state.available.numpy()[0, NORTH, 0]
    # From y = 12.9, on the cliff, both neighbours south (11) and north (13) are ground.
    ring, state = ravine(map_arena, [(15.5, 12.9), (18.5, 16)], [(2.5, 9.5)])
    assert state.available.numpy()[0, [NORTH, SOUTH], 0].all()
    state = ring.step(state, [SOUTH, STOP])
    assert float(state.units.y[0, 0]) == pytest.approx(12.9 - 1.125, abs=1e-3)


def test_zergling_does_not_cross_the_cliff(map_arena):
    ring, state = ravine(map_arena, [(15.5, 14), (17.5, 14)], [(15.5, 11.5)])
    cells = set()
    for _ in range(20):
        state = ring.step(ring.with_units(state, health=[200.0] * 2 + [35.0] + [0.0] * 63), [STOP, STOP])
        cells.add((int(state.units.x[2, 0]), int(state.units.y[2, 0])))
    assert not {(x, 12) for x in range(4, 28)} & cells
    # It went round an end of the cliff, 12 cells away, and up to the colossi: 0.1 + 0.375 + 1 from edge to edge.
    assert {x < 4 or x > 27 for x, _ in cells} == {True, False}
    distance = np.hypot(state.units.x[2] - state.units.x[:2], state.units.y[2] - state.units.y[:2])
    assert distance.min() < 1.475 + 0.05


# Orders and ways


def immortal(ring, state):
    """The same battle with the agents at full health and shields."""
    n, laws = ring.world.scenario.num_agents, ring.world.physics
    units = state.units
    return ring.with_units(
        state,
        health=np.r_[laws.max_health[:n, 0], units.health.numpy()[n:, 0]],
        shield=np.r_[laws.max_shield[:n, 0], units.shield.numpy()[n:, 0]],
    )


@pytest.mark.parametrize(
    ("map_name", "team"),
    [
        ("corridor", None),  # where it spawns
        ("corridor", (4.5, 4.5)),  # in the other room, past the neck
        pytest.param("so_many_baneling", None, marks=pytest.mark.slow),
        pytest.param("so_many_baneling", (3.5, 4.5), marks=pytest.mark.slow),  # at the far end
        ("2c_vs_64zg", None),  # on the plateau
        ("2c_vs_64zg", (15.5, 18.5)),  # at its back
    ],
)
def test_enemies_find_a_team_that_stands_still(map_arena, map_name, team):
    """No agent moves; enemies come round whatever is in the way, on ground they can walk on, and attack."""
    ring = map_arena(map_name)
    battle = ring.world.scenario
    n = battle.num_agents
    places = battle.spawn.copy()
    if team:
        places[:n] = np.array(team) + 1.6 * np.arange(n)[:, None] * [0, 0.5]
    full = (ring.world.physics.max_health + ring.world.physics.max_shield)[:n, 0]
    state, attacked, steps = ring.start(places), np.zeros(n, bool), 0
    while not attacked.any():
        before = state.units
        state, steps = ring.step(state, np.where(before.alive.numpy()[:n, 0], STOP, 0)), steps + 1
        attacked |= (state.units.health + state.units.shield).numpy()[:n, 0] < full
        alive = state.units.alive.numpy()[n:, 0]
        x, y = (axis.numpy()[n:, 0][alive].astype(int) for axis in (state.units.x, state.units.y))
        assert battle.pathable[x, y].all()
        assert steps < battle.episode_limit // 2, "nobody came"


@pytest.mark.parametrize("map_name", ["corridor", "2c_vs_64zg"])
def test_walker_finds_the_way_from_anywhere_to_anywhere(map_name):
    """128 lone enemies, each on its way to a place of its own; the agent is out of sight, off the map."""
    battle = scenario(map_name)
    one_each = dataclasses.replace(
        battle,
        agents=battle.agents[:1],
        enemies=battle.enemies[:1],
        spawn=battle.spawn[[0, battle.num_agents]],
        enemy_order="attack_move",
        attack_segment=np.zeros([2, 2]),
    )
    world = Combat(one_each, 128)
    play = graph.function(world.step, jit_compile=True)
    cells, rng = np.argwhere(battle.pathable), np.random.default_rng(0)
    start, goal = (
        (cells[rng.integers(len(cells), size=128)] + rng.random([128, 2]) * 0.999).T.astype(np.float32) for _ in "ab"
    )
    state = world.reset(tf.constant([0, 0]))._replace(rally_x=tf.constant(goal[0]), rally_y=tf.constant(goal[1]))
    x, y = start
    away = np.full(128, -40, np.float32)
    arrived = np.zeros(128, bool)
    for t in range(40):  # 20 seconds; zerglings make 59 map units
        state = state._replace(units=state.units._replace(x=tf.stack([away, x]), y=tf.stack([away, y])))
        state = play(state, tf.ones([128, 1], tf.int32), tf.constant([1, t]))
        x, y = state.units.x.numpy()[1], state.units.y.numpy()[1]
        assert battle.pathable[x.astype(int), y.astype(int)].all()
        arrived |= np.hypot(x - goal[0], y - goal[1]) < 0.1
    assert arrived.all(), (start.T[~arrived], goal.T[~arrived])


def test_zerglings_of_2c_vs_64zg_come_from_anywhere(map_arena):
    corners = [(0.5, 15.5), (31.5, 15.5), (16.5, 5.5), (4.5, 5.5), (27.5, 5.5), (0.5, 11.5), (31.5, 11.5)]
    corners += [(2.5, 18.5), (29.5, 18.5), (8.5, 20.5), (23.5, 20.5), (16.5, 10.5)]
    ring, state = ravine(map_arena, [(15, 16), (17, 16)], corners)
    assert all(ring.world.scenario.pathable[int(x), int(y)] for x, y in corners)
    for _ in range(40):  # 20 seconds, 59 map units of walking
        state = ring.step(immortal(ring, state), [STOP, STOP])
        living = slice(2, 2 + len(corners))
        assert state.units.alive.numpy()[living].all()
        x, y = (axis.numpy()[:, 0] for axis in (state.units.x, state.units.y))
        assert ring.world.scenario.pathable[x[living].astype(int), y[living].astype(int)].all()
    distance = np.hypot(x[living, None] - x[None, :2], y[living, None] - y[None, :2]).min(1)
    # All are beside a colossus, 0.1 + 0.375 + 1 away, or in the next row, a zergling farther.
    assert distance.max() < 1.475 + 0.75 + 0.1


def test_spine_crawler_has_no_order(map_arena):
    ring = map_arena("2s_vs_1sc")
    state = ring.start()
    start = state.units.x.numpy()[2, 0], state.units.y.numpy()[2, 0]
    for _ in range(20):
        state = ring.step(state, [STOP, STOP])
    assert (state.units.x.numpy()[2, 0], state.units.y.numpy()[2, 0]) == start
    np.testing.assert_array_equal(state.units.shield[:2, 0], 80)  # the stalkers spawn beyond 8.5


def test_enemies_walk_to_the_agents_spawn_point(map_arena):
    ring = map_arena("MMM")
    places = ring.world.scenario.spawn.copy()
    places[:10], places[11:] = [1, 24], [31, 8]
    state = ring.start(places, health=[0.0] * 2 + [45.0] + [0.0] * 7 + [45.0] + [0.0] * 9)
    for _ in range(20):  # 22.5 map units; the marine that waits in the corner is out of sight
        state = ring.step(state, [0, 0, STOP] + [0] * 7)
    assert np.hypot(float(state.units.x[10, 0]) - 9, float(state.units.y[10, 0]) - 16) < 0.2


def test_zealot_of_2m_vs_1z_walks_to_a_point_that_varies_between_the_marines(map_arena):
    world = map_arena("2m_vs_1z").world
    many = world.resize(256).reset(tf.constant([3, 4]))
    x, y = many.rally_x.numpy(), many.rally_y.numpy()
    np.testing.assert_array_equal(y, 12)
    assert ((x >= 13) & (x <= 19)).all()
    # Uniform on [13, 19]: mean 16, and every sixth of it has about 43 of 256.
    assert np.histogram(x, 6, (13, 19))[0].min() > 20
    fixed = map_arena("MMM").world.resize(16).reset(tf.constant([3, 4]))
    assert set(zip(fixed.rally_x.numpy(), fixed.rally_y.numpy(), strict=True)) == {(9, 16)}
