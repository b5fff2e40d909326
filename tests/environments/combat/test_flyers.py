"""Flyers, and the maps with a Medivac, by worked battles: what happens, how much, and to whom.

A game second is 16 game loops, an env step 8. Ranges are edge to edge: from centre to centre they end at the range
plus both radii. Radii: marine, zergling, baneling 0.375; zealot 0.5; marauder 0.5625; stalker, hydralisk 0.625;
medivac 0.75; spine crawler 0.875; colossus 1.
"""

import numpy as np
import pytest
import tensorflow as tf

STOP, NORTH, EAST = 1, 2, 4
SECOND, STEP = 16, 8  # game loops
# MMM: who is who, agents 0-9 and enemies 10-19 (MMM2: 10-21).
MARAUDERS, MARINES, MEDIVAC = [0, 1], [2, 3, 4, 5, 6, 7, 8], 9


# Planes


@pytest.mark.parametrize("attacker", ["marauder", "zealot", "colossus", "zergling", "baneling"])
def test_agent_stands_when_ordered_to_attack_what_it_cannot_hit(zoo, attacker):
    state = zoo.start({attacker: (10, 10), "enemy medivac": (15.9, 10)})
    state = zoo.play(state, {attacker: "enemy medivac"}, loops=SECOND)
    assert zoo.unit(state, "enemy medivac").health == 150
    assert zoo.unit(state, attacker).x == pytest.approx(10, abs=1e-4)
    assert zoo.unit(state, attacker).health > 0


@pytest.mark.parametrize(("attacker", "hit"), [("marine", 6 - 1), ("stalker", 10 + 4 - 1), ("hydralisk", 12 - 1)])
def test_agents_shoot_medivacs_down(zoo, attacker, hit):
    state = zoo.start({attacker: (10, 10), "enemy medivac": (14, 10)})
    state = zoo.play(state, {attacker: "enemy medivac"}, loops=STEP)
    assert zoo.unit(state, "enemy medivac").health == 150 - hit  # armour 1, armored


@pytest.mark.parametrize(
    ("attacker", "hits"),
    [
        *(("enemy marine", True), ("enemy stalker", True), ("enemy hydralisk", True), ("enemy marauder", False)),
        *(("enemy zealot", False), ("enemy colossus", False), ("enemy zergling", False), ("enemy baneling", False)),
        ("enemy spine_crawler", False),
    ],
)
def test_enemies_that_cannot_hit_flyers_leave_them_alone(zoo, attacker, hits):
    state = zoo.play(zoo.start({"medivac": (10, 10), attacker: (11, 10)}), loops=SECOND)
    assert (zoo.unit(state, "medivac").health < 150) == hits
    if not hits:
        # Nor do they follow it, or burst.
        assert zoo.unit(state, attacker).x == pytest.approx(11, abs=1e-4)
        assert zoo.unit(state, attacker).health > 0


@pytest.mark.parametrize("attacker", ["marine", "marauder", "stalker", "zealot", "zergling", "hydralisk"])
def test_colossi_are_in_reach_of_every_weapon(zoo, attacker):
    state = zoo.start({attacker: (10, 10), "enemy colossus": (11.4, 10)})
    state = zoo.play(state, {attacker: "enemy colossus"}, loops=STEP)
    assert zoo.unit(state, "enemy colossus").shield < 150


def test_flyers_and_walkers_pass_through_one_another(zoo):
    state = zoo.start({"medivac": (10, 10), "marine": (10.1, 10), "zealot": (13, 10)})
    state = zoo.play(state, loops=STEP)
    assert zoo.unit(state, "marine").x == pytest.approx(10.1, abs=1e-4)
    assert zoo.unit(state, "medivac").x == pytest.approx(10, abs=1e-4)
    state = zoo.play(state, {"medivac": EAST}, loops=3 * STEP)  # over the zealot
    assert zoo.unit(state, "zealot").x == pytest.approx(13, abs=1e-4)
    assert zoo.unit(state, "medivac").x == pytest.approx(10 + 3 * 1.375, abs=1e-2)


def test_walkers_do_not_pass_through_one_another(zoo):
    state = zoo.play(zoo.start({"marine": (10, 10), "colossus": (10.5, 10)}), loops=STEP)
    gap = np.hypot(
        zoo.unit(state, "marine").x - zoo.unit(state, "colossus").x,
        zoo.unit(state, "marine").y - zoo.unit(state, "colossus").y,
    )
    assert gap > 0.9 * (0.375 + 0.75)  # separation radii


# MMM


def mmm(map_arena, map_name="MMM", alive=None, places=None, **fields):
    """A battle on an MMM map in which only some units live; nobody is near anyone unless placed there."""
    ring = map_arena(map_name)
    units = ring.world.scenario.units
    health = [unit.hit_points if alive is None or i in alive else 0.0 for i, unit in enumerate(units)]
    spots = ring.world.scenario.spawn.copy()
    for i, place in (places or {}).items():
        spots[i] = place
    return ring.world, ring.start(spots, **({"health": health} | fields))


@pytest.mark.parametrize(
    ("alive", "terminated", "won"),
    [
        ({2, 9, 10, 19}, False, False),
        ({9, 10, 19}, True, False),  # of the agents only the medivac is left
        ({9, 19}, True, False),  # both sides' medivacs: defeat is looked at first
        ({9}, True, False),  # even so
        ({10, 19}, True, False),
        (set(), True, False),
        ({2, 19}, True, True),  # of the enemies only the medivac is left
        ({2}, True, True),
        ({2, 10}, False, False),
    ],
)
def test_medivacs_alone_do_not_fight_on(map_arena, alive, terminated, won):
    world, state = mmm(map_arena, alive=alive)
    ending = world.task.ending(state.units, tf.constant([10]))
    assert bool(ending.terminated[0]) == terminated
    assert bool(ending.won[0]) == won
    assert bool(ending.lost[0]) == (terminated and not won)


def test_on_other_maps_mutual_death_is_a_draw_not_a_defeat(map_arena):
    ring = map_arena("3m")
    ending = ring.world.task.ending(ring.start(health=[0.0] * 6).units, tf.constant([10]))
    assert [bool(flag[0]) for flag in (ending.terminated, ending.won, ending.lost)] == [True, False, False]


@pytest.mark.parametrize(("map_name", "enemy_medivac", "expected"), [("MMM", 19, 16.85), ("MMM2", 21, 17.34)])
def test_win_with_the_untouched_enemy_medivac_returns_less(map_arena, map_name, enemy_medivac, expected):
    """MMM: 1015 less 150 health and 10 for the kill, of 1015 that make 20; MMM2: 1205 likewise."""
    world, before = mmm(map_arena, map_name)
    _, after = mmm(map_arena, map_name, alive={*range(10), enemy_medivac})
    ending = world.task.ending(after.units, tf.constant([10]))
    assert bool(ending.won[0])
    assert float(world.task.reward(before.units, after.units, ending)[0]) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("map_name", "others"), [("MMM", 10), ("MMM2", 12)])
def test_medivac_may_heal_the_near_and_living_and_attack_nobody(map_arena, map_name, others):
    # Agent 0 at exactly 6, 1 beyond it, 2 near, 3 near but dead, 4 near, the others far; enemies all around.
    places = {MEDIVAC: (9, 16), 0: (15, 16), 1: (15.01, 16), 2: (9, 18), 3: (9, 18), 4: (5, 16)}
    places |= dict.fromkeys([5, 6, 7, 8], (25, 10)) | dict.fromkeys(range(10, 10 + others), (9, 15))
    world, state = mmm(map_arena, map_name, alive={*range(10 + others)} - {3}, places=places)
    available = state.available.numpy()[MEDIVAC, :, 0]
    assert len(available) == 6 + others
    assert np.flatnonzero(available[6:]).tolist() == [0, 2, 4]
    # Everyone near: slots 6..14, never itself (15), nor 16 and 17 that only MMM2 has.
    world, state = mmm(map_arena, map_name, places=dict.fromkeys(range(10 + others), (9, 15)))
    assert np.flatnonzero(state.available.numpy()[MEDIVAC, 6:, 0]).tolist() == list(range(9))
    assert state.available.numpy()[:MEDIVAC, 6:, 0].all()
    # The medivac's column "attackable" of enemy row j tells whether agent j may be healed.
    observation = world.task.observation(state.units, state.last_action, state.available, tf.zeros([1], tf.int32))
    rows = observation["obs"][0].numpy()[:, 4 : 4 + 8 * others].reshape(10, others, 8)
    assert rows[MEDIVAC, :, 0].tolist() == [1] * 9 + [0] * (others - 9)
    assert rows[:MEDIVAC, :, 0].all()


def test_medivacs_row_of_the_state_shows_its_energy(map_arena):
    world, state = mmm(map_arena, places={MEDIVAC: (8, 24)}, energy=[0] * 9 + [120] + [0] * 9 + [40])
    observation = world.task.observation(state.units, state.last_action, state.available, tf.zeros([1], tf.int32))
    # Columns: health, energy / 200, x, y, bits of marauder, marine, medivac.
    rows = observation["state"][0].numpy()[:70].reshape(10, 7)
    np.testing.assert_allclose(rows[MEDIVAC], [1, 0.6, -8 / 32, 8 / 32, 0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(rows[[0, 2]][:, [0, 1, 4, 5, 6]], [[1, 0, 1, 0, 0], [1, 0, 0, 1, 0]])


def test_medivac_crosses_what_nobody_walks_on_but_moves_by_the_ground_grid(map_arena):
    """band16 is open from y = 7 to 25; a move is available if the ground one unit away is."""
    world, state = mmm(map_arena, places={MEDIVAC: (9, 24.5), 2: (20, 24.5)})
    assert not state.available.numpy()[[MEDIVAC, 2], NORTH, 0].any()
    world, state = mmm(map_arena, places={MEDIVAC: (9, 23.9), 2: (20, 23.9)})
    assert state.available.numpy()[[MEDIVAC, 2], NORTH, 0].all()
    ring = map_arena("MMM")
    after = ring.step(state, [NORTH if i in (2, MEDIVAC) else STOP for i in range(10)]).units.y.numpy()[:, 0]
    assert after[MEDIVAC] == pytest.approx(23.9 + 1.375, abs=1e-3)  # over the edge
    assert 24.9 < after[2] < 25
    del world
