"""Every mechanism by a worked battle, from the unit table of the game data: what it does, how much, and to whom.

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
from tf_marl.environments.combat.units import unit_types

STOP, NORTH, SOUTH, EAST, WEST, ATTACK = 1, 2, 3, 4, 5, 6
SECOND, STEP = 16, 8  # game loops
AT_ONCE = 2  # game loops: by then a hit without a damage point has landed
# MMM: who is who, agents 0-9 and enemies 10-19 (MMM2: 10-21).
MARAUDERS, MARINES, MEDIVAC = [0, 1], [2, 3, 4, 5, 6, 7, 8], 9


# Healing


def test_medivac_heals_nine_hit_points_a_second_for_a_third_of_an_energy_point_each(zoo):
    state = zoo.start({"medivac": (10, 10), "marine": (13, 10)}, health={"marine": 10})
    for steps in (1, 2, 3):
        state = zoo.play(state, {"medivac": "marine"}, loops=STEP)
        # 9 / 2 = 4.5 an env step; each costs 0.33, while 0.5625 / 2 come back.
        assert zoo.unit(state, "marine").health == pytest.approx(10 + 4.5 * steps, abs=1e-3)
        assert zoo.unit(state, "medivac").energy == pytest.approx(50 + (0.28125 - 4.5 * 0.33) * steps, abs=1e-3)


def test_healing_stops_at_full_health_and_costs_what_it_gave(zoo):
    state = zoo.start({"medivac": (10, 10), "marine": (13, 10)}, health={"marine": 43})
    state = zoo.play(state, {"medivac": "marine"}, loops=STEP)
    assert zoo.unit(state, "marine").health == 45
    assert zoo.unit(state, "medivac").energy == pytest.approx(50 + 0.28125 - 2 * 0.33, abs=1e-3)


def test_energy_recovers_up_to_200(zoo):
    state = zoo.start({"medivac": (10, 10)}, energy={"medivac": 199.0})
    state = zoo.play(state, loops=SECOND)
    assert zoo.unit(state, "medivac").energy == pytest.approx(199.5625, abs=1e-3)
    assert zoo.unit(zoo.play(state, loops=SECOND), "medivac").energy == 200


def test_medivac_without_energy_heals_no_more_than_it_recovers(zoo):
    state = zoo.start({"medivac": (10, 10), "marine": (13, 10)}, health={"marine": 10}, energy={"medivac": 0.33})
    state = zoo.play(state, {"medivac": "marine"}, loops=4 * SECOND)
    # One hit point, and 4 x 0.5625 energy at 0.33 the hit point: 7.8 in all instead of 36.
    assert zoo.unit(state, "marine").health == pytest.approx(10 + 1 + 4 * 0.5625 / 0.33, abs=0.15)
    assert 0 <= zoo.unit(state, "medivac").energy < 0.05


@pytest.mark.parametrize(("distance", "heals"), [(5.12, True), (5.16, False)])
def test_healing_reaches_four_from_edge_to_edge(zoo, distance, heals):
    state = zoo.start({"medivac": (10, 10), "marine": (10 + distance, 10)}, health={"marine": 10})
    state = zoo.play(state, {"medivac": "marine"}, loops=1)
    assert (zoo.unit(state, "marine").health > 10) == heals  # 4 + 0.75 + 0.375 = 5.125
    assert (zoo.unit(state, "medivac").x > 10) == (not heals)


def test_medivac_flies_to_its_patient_and_stays_there(zoo):
    state = zoo.start({"medivac": (10, 10), "marauder": (15.9, 10)}, health={"marauder": 10})
    state = zoo.play(state, {"medivac": "marauder"}, loops=2)
    # 2.75 / 16 a loop; in range at 4 + 0.75 + 0.5625 = 5.3125, after 0.5875, which the fourth loop passes.
    assert zoo.unit(state, "medivac").x == pytest.approx(10 + 2 * 0.171875, abs=1e-4)
    state = zoo.play(state, {"medivac": "marauder"}, loops=12)
    assert zoo.unit(state, "medivac").x == pytest.approx(10 + 4 * 0.171875, abs=1e-4)
    assert zoo.unit(state, "marauder").health == pytest.approx(10 + 10 * 9 / 16, abs=1e-3)


@pytest.mark.parametrize("patient", ["marine", "marauder", "zealot", "zergling", "baneling", "hydralisk"])
def test_biological_units_are_healed(zoo, patient):
    state = zoo.start({"medivac": (10, 10), patient: (12, 10)}, health={patient: 5})
    assert zoo.unit(zoo.play(state, {"medivac": patient}), patient).health > 5 + 4


@pytest.mark.parametrize("machine", ["stalker", "colossus"])
def test_machines_are_not_healed(zoo, machine):
    state = zoo.start({"medivac": (10, 10), machine: (12, 10)}, health={machine: 5})
    state = zoo.play(state, {"medivac": machine})
    assert zoo.unit(state, machine).health == 5
    assert zoo.unit(state, "medivac").energy == pytest.approx(50.28125, abs=1e-3)


def test_agents_medivac_does_nothing_unasked(zoo):
    state = zoo.start({"medivac": (10, 10), "marine": (12, 10), "marauder": (17, 10)}, health={"marine": 5})
    state = zoo.play(state, loops=SECOND)
    assert zoo.unit(state, "marine").health == 5
    assert (zoo.unit(state, "medivac").x, zoo.unit(state, "medivac").y) == (10, 10)


def test_enemy_medivac_heals_the_weakest_of_the_hurt_around_it(zoo):
    places = {"enemy medivac": (10, 10), "enemy marine": (12, 10), "enemy zealot": (8, 10), "enemy hydralisk": (10, 30)}
    state = zoo.start(places, health={"enemy marine": 30, "enemy zealot": 20, "enemy hydralisk": 1})
    state = zoo.play(state, loops=STEP)
    assert zoo.unit(state, "enemy zealot").health == pytest.approx(24.5, abs=1e-3)
    assert zoo.unit(state, "enemy marine").health == 30
    assert zoo.unit(state, "enemy medivac").y == pytest.approx(10, abs=1e-3)  # nobody looks as far as 20


@pytest.mark.parametrize(("energy", "heals"), [(4.9, False), (5.5, True)])
def test_enemy_medivac_heals_by_itself_from_five_energy_on(zoo, energy, heals):
    state = zoo.start(
        {"enemy medivac": (10, 10), "enemy marine": (12, 10)},
        health={"enemy marine": 30},
        energy={"enemy medivac": energy},
    )
    assert (zoo.unit(zoo.play(state, loops=1), "enemy marine").health > 30) == heals


def test_agents_medivac_heals_with_less_than_five_energy_when_told(zoo):
    places = {"medivac": (10, 10), "marine": (12, 10)}
    state = zoo.start(places, health={"marine": 10}, energy={"medivac": 3.0})
    assert zoo.unit(zoo.play(state, {"medivac": "marine"}), "marine").health == pytest.approx(14.5, abs=1e-3)


def test_enemy_medivac_follows_who_may_need_it(zoo):
    state = zoo.play(zoo.start({"enemy medivac": (10, 10), "enemy marine": (20, 10)}), loops=STEP)
    assert zoo.unit(state, "enemy medivac").x == pytest.approx(10 + 1.375, abs=1e-3)


def test_enemy_medivac_does_not_heal_itself_or_machines(zoo):
    places = {"enemy medivac": (10, 10), "enemy stalker": (12, 10)}
    state = zoo.play(zoo.start(places, health={"enemy medivac": 50, "enemy stalker": 20}), loops=SECOND)
    assert zoo.unit(state, "enemy medivac").health == 50
    assert zoo.unit(state, "enemy stalker").health == 20


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


# Colossus


def test_colossus_beams_hit_a_loop_apart_and_armour_comes_off_each(zoo):
    # Zealot: 50 shield, armour 1. Beams land 0.0832 s, 1.33 loops, after the start: at the third loop and the fourth.
    state = zoo.start({"colossus": (10, 10), "enemy zealot": (15, 10)}, shield={"enemy zealot": 10})
    state = zoo.play(state, {"colossus": "enemy zealot"}, loops=2)
    assert zoo.unit(state, "enemy zealot").shield == 10
    state = zoo.play(state, {"colossus": "enemy zealot"}, loops=1)
    assert zoo.unit(state, "enemy zealot").shield == 0
    assert zoo.unit(state, "enemy zealot").health == 100 - (20 - 10 - 1)
    state = zoo.play(state, {"colossus": "enemy zealot"}, loops=1)
    assert zoo.unit(state, "enemy zealot").health == 100 - (20 - 10 - 1) - (20 - 1)
    # The next pair comes a period, 2.2 s = 35.2 loops, after the first began.
    state = zoo.play(state, {"colossus": STOP}, loops=30)
    assert zoo.unit(state, "enemy zealot").health == 100 - 9 - 19


@pytest.mark.parametrize(
    ("offset", "hit"),
    [
        # Across the shot the line ends at 1.25, and 0.15 + 0.375 more reach a zergling's edge: 1.775.
        ((0.0, 1.77), True),
        ((0.0, -1.77), True),
        ((0.0, 1.79), False),
        # Along the shot only 0.525 are near.
        ((0.52, 1.0), True),
        ((-0.52, -1.0), True),
        ((0.53, 1.0), False),
        ((-0.53, -1.0), False),
        # Round the end of the line: 0.35 and 0.4 make 0.53, 0.35 and 0.3 make 0.46.
        ((0.35, 1.25 + 0.4), False),
        ((0.35, 1.25 + 0.3), True),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_beam_hits_whoever_is_on_its_line_and_nobody_off_it(zoo, offset, hit, turned):
    """The shot runs along x, the beam sweeps along y; turned, the other way round. Agents stand still under it."""
    along, across = offset
    places = {"enemy colossus": (10, 10), "marauder": (15, 10), "zergling": (15 + along, 10 + across)}
    if turned:
        places = {name: (y, x) for name, (x, y) in places.items()}
    state = zoo.start(places, target={"enemy colossus": zoo.names.index("marauder")})  # which it keeps
    state = zoo.play(state, loops=3)  # the first beam
    assert zoo.unit(state, "marauder").health == 125 - (20 - 1)
    assert zoo.unit(state, "zergling").health == pytest.approx(35 - 20 * hit, abs=0.1)
    state = zoo.play(state, loops=1)  # the second kills
    assert zoo.unit(state, "zergling").health == (0 if hit else 35)


def test_beam_hits_each_unit_once_and_spares_friends_and_flyers(zoo):
    places = {"colossus": (10, 10), "enemy marauder": (15, 10), "enemy zealot": (15, 10.9), "enemy medivac": (15, 9)}
    state = zoo.start(places | {"marine": (15, 11.7)}, shield={"enemy zealot": 0}, energy={"enemy medivac": 0})
    state = zoo.play(state, {"colossus": "enemy marauder"}, loops=4)
    assert zoo.unit(state, "enemy marauder").health == pytest.approx(125 - 2 * 19, abs=0.5)
    assert zoo.unit(state, "enemy zealot").health == pytest.approx(100 - 2 * 19, abs=0.5)
    assert zoo.unit(state, "enemy medivac").health == 150
    # The marauder may have shot the marine and the zealot's first blow hit it; a beam takes 20.
    assert zoo.unit(state, "marine").health >= 45 - 10 - 8


def test_enemy_colossus_sweeps_the_agents(zoo):
    state = zoo.start({"enemy colossus": (10, 10), "marauder": (15, 10), "hydralisk": (15, 11.5), "medivac": (15, 9.5)})
    state = zoo.play(state, loops=4)
    assert zoo.unit(state, "marauder").health == 125 - 2 * 19
    assert zoo.unit(state, "hydralisk").health == pytest.approx(80 - 2 * 20, abs=0.1)
    assert zoo.unit(state, "medivac").health == 150


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


# Banelings


@pytest.mark.parametrize(("distance", "bursts"), [(0.99, True), (1.03, False)])
def test_baneling_bursts_on_contact(zoo, distance, bursts):
    """Contact is 0.25 from edge to edge: 0.25 + 0.375 + 0.375 = 1 from a marine. From farther it walks first."""
    state = zoo.start({"enemy baneling": (10, 10), "marine": (10 + distance, 10)})
    state = zoo.play(state, loops=1)
    assert (zoo.unit(state, "enemy baneling").x == 10) == bursts
    assert zoo.unit(state, "marine").health == 45 or bursts
    state = zoo.play(state, loops=AT_ONCE)
    assert zoo.unit(state, "enemy baneling").health == 0
    assert zoo.unit(state, "marine").health == 45 - 35  # 20, 15 more for the light


def test_agents_baneling_bursts_when_ordered_to_attack_and_not_by_itself(zoo):
    state = zoo.play(zoo.start({"baneling": (10, 10), "enemy medivac": (10.5, 10), "enemy stalker": (11, 10)}))
    assert zoo.unit(state, "enemy stalker").shield == 80
    state = zoo.start({"baneling": (10, 10), "enemy stalker": (11.2, 10)})
    state = zoo.play(state, {"baneling": "enemy stalker"}, loops=AT_ONCE)
    assert zoo.unit(state, "baneling").health == 0
    assert zoo.unit(state, "enemy stalker").shield == 80 - 20


@pytest.mark.parametrize(
    ("target", "loss"),
    [
        ("marine", 35),  # light: 20 + 15
        ("zergling", 35),
        ("hydralisk", 35),
        ("zealot", 34),  # light, armour 1
        ("marauder", 19),  # armour 1
        ("baneling", 20),  # not light
        ("stalker", 19),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_burst_reaches_2_2_and_the_targets_radius_at_full_damage(zoo, target, loss, inside):
    """It bursts upon a colossus in contact, 0.25 + 0.375 + 1 away; the target stands on the other side."""
    reach = 2.2 + {"hydralisk": 0.625, "zealot": 0.5, "marauder": 0.5625, "stalker": 0.625}.get(target, 0.375)
    places = {"enemy baneling": (10, 10), "colossus": (10, 8.4), target: (10, 10 + reach + (-0.01 if inside else 0.01))}
    state = zoo.start(places, shield={target: 0, "colossus": 0})
    full = zoo.unit(state, target).health
    state = zoo.play(state, loops=AT_ONCE)
    assert zoo.unit(state, "enemy baneling").health == 0
    assert zoo.unit(state, "colossus").health == 200 - 19
    assert full - zoo.unit(state, target).health == pytest.approx(loss if inside else 0, abs=0.05)


def test_burst_hurts_the_other_side_only_and_nobody_in_the_air(zoo):
    places = {"enemy baneling": (10, 10), "marine": (10.9, 10), "medivac": (10.5, 10.5)}
    friends = {"enemy zealot": (10, 11), "enemy zergling": (9.2, 10), "enemy baneling 2": (10, 8.8)}
    state = zoo.play(zoo.start(places | friends), loops=AT_ONCE)
    assert zoo.unit(state, "marine").health == 10
    assert zoo.unit(state, "medivac").health == 150
    assert [zoo.unit(state, name).health for name in friends] == [100, 35, 30]
    assert zoo.unit(state, "enemy zealot").shield == 50


def test_baneling_bursts_when_it_is_killed(zoo):
    """An agents' one, which stands still; an enemy zealot kills it."""
    places = {"baneling": (10.9, 10), "enemy zealot": (10, 10), "enemy colossus": (10.9, 13.1)}
    places |= {"enemy marine": (10.9, 7.4), "enemy hydralisk": (13.7, 10)}
    state = zoo.start(places, health={"baneling": 7}, shield={"enemy zealot": 0, "enemy colossus": 0})
    state = zoo.play(state, loops=AT_ONCE)
    assert zoo.unit(state, "baneling").health == 0
    assert zoo.unit(state, "enemy zealot").health == 100 - (35 - 1)
    assert zoo.unit(state, "enemy colossus").health == 200 - (20 - 1)  # 3.1 < 2.2 + 1
    assert zoo.unit(state, "enemy hydralisk").health == pytest.approx(80 - 35, abs=0.05)  # 2.8 < 2.2 + 0.625
    assert zoo.unit(state, "enemy marine").health == 45  # 2.6 > 2.2 + 0.375


def test_shot_from_afar_makes_a_baneling_burst_where_it_is(zoo):
    places = {"marine": (10, 10), "enemy baneling": (15, 10), "zealot": (15, 12.6)}
    state = zoo.start(places, health={"enemy baneling": 5}, shield={"zealot": 0})
    state = zoo.play(state, {"marine": "enemy baneling"}, loops=3)
    assert zoo.unit(state, "enemy baneling").health == 0
    assert zoo.unit(state, "zealot").health == 100 - 34  # 2.6 < 2.2 + 0.5
    assert zoo.unit(state, "marine").health == 45


def test_bursts_of_both_sides_set_one_another_off(zoo):
    """Agents' 1 meets an enemy marine; enemy 1, weak and near, dies of it and takes agents' 2 along, and so on."""
    places = {"baneling": (10, 10), "enemy marine": (9.05, 10)}  # contact
    places |= {"enemy baneling": (12, 10), "baneling 2": (14, 10), "enemy baneling 2": (16, 10), "marine": (18, 10)}
    health = {"enemy baneling": 19, "baneling 2": 19, "enemy baneling 2": 19}
    state = zoo.start(places | {"hydralisk": (20, 20)}, health=health)
    state = zoo.play(state, {"baneling": "enemy marine"}, loops=STEP)
    chain = ["baneling", "enemy baneling", "baneling 2", "enemy baneling 2"]
    assert [zoo.unit(state, name).health for name in chain] == [0, 0, 0, 0]
    assert zoo.unit(state, "marine").health == 10  # 2 from the last of them
    assert zoo.unit(state, "enemy marine").health == 10  # 9.05 and 14 are too far apart for a second burst


def test_enemy_that_bursts_pays_its_health_and_the_kill(zoo):
    state = zoo.start({"zealot": (10, 10), "enemy baneling": (10.9, 10)}, health={"enemy baneling": 25})
    paid = []
    for _ in range(AT_ONCE):
        state = zoo.play(state, loops=1)
        paid.append(float(state.reward[0]))
    assert zoo.unit(state, "zealot").shield == 50 - 35
    assert max(paid) == pytest.approx((25 + 10) * 20 / zoo.max_reward, rel=1e-3)


# Recovery


@pytest.mark.parametrize("name", ["zergling", "baneling", "hydralisk", "enemy spine_crawler", "enemy zergling"])
def test_zerg_recover_health_slowly_and_always(zoo, name):
    state = zoo.start({name: (10, 10)}, health={name: 5})
    state = zoo.play(state, loops=2 * SECOND)
    assert zoo.unit(state, name).health == pytest.approx(5 + 2 * 0.2734, abs=1e-3)


@pytest.mark.parametrize("name", ["marine", "marauder", "medivac", "stalker", "zealot", "colossus"])
def test_others_do_not_recover_health(zoo, name):
    state = zoo.play(zoo.start({name: (10, 10)}, health={name: 5}), loops=SECOND)
    assert zoo.unit(state, name).health == 5


def test_nobody_recovers_beyond_full_health_and_the_dead_do_not_at_all(zoo):
    state = zoo.play(zoo.start({"zergling": (10, 10)}, health={"zergling": 34.9}), loops=SECOND)
    assert zoo.unit(state, "zergling").health == 35
    assert zoo.unit(state, "hydralisk").health == 0


@pytest.mark.parametrize(("name", "full"), [("stalker", 80), ("zealot", 50), ("colossus", 150)])
def test_shield_recovers_from_the_twentieth_env_step_without_damage(zoo, name, full):
    state = zoo.play(zoo.start({name: (10, 10)}, shield={name: 10}), loops=19 * STEP)
    assert zoo.unit(state, name).shield == 10
    state = zoo.play(state, loops=STEP)
    after_20 = zoo.unit(state, name).shield
    assert after_20 == pytest.approx(10, abs=0.126)  # a loop more or less
    for steps in (1, 2):
        state = zoo.play(state, loops=STEP)
        assert zoo.unit(state, name).shield == pytest.approx(after_20 + steps, abs=1e-3)
    state = zoo.play(zoo.start({name: (10, 10)}, shield={name: full - 0.5}, loops_unhurt={name: 1000}), loops=STEP)
    assert zoo.unit(state, name).shield == full


def test_damage_starts_the_wait_for_shields_anew(zoo):
    places = {"stalker": (10, 10), "enemy marine": (15, 10)}
    state = zoo.start(places, shield={"stalker": 40}, loops_unhurt={"stalker": 150})
    state = zoo.play(state, loops=2)  # damage point 0.05 s: the second loop
    assert zoo.unit(state, "stalker").shield == 40 - 6
    assert zoo.unit(state, "stalker").loops_unhurt < 2


def test_enemies_that_only_recover_pay(zoo):
    """The absolute value of -0.2734 / 16: with `reward_only_positive` a gain of theirs is a gain of ours."""
    state = zoo.play(zoo.start({"enemy zergling": (10, 10)}, health={"enemy zergling": 5}), loops=1)
    assert float(state.reward[0]) == pytest.approx(0.2734 / 16 * 20 / zoo.max_reward, rel=1e-2)


# Spine crawler


@pytest.mark.parametrize(("distance", "reached"), [(8.5, True), (8.6, False)])
def test_spine_crawler_reaches_a_stalker_at_8_5(zoo, distance, reached):
    """7 + 0.875 + 0.625; 25, 5 more for the armored.

    Its turret takes 4 loops from the south to the east, the damage point is 0.3332 s = 5.3 loops, the tentacle's flight
    10 and more.
    """
    state = zoo.start({"enemy spine_crawler": (10, 10), "stalker": (10 + distance, 10)})
    state = zoo.play(state, loops=3 * STEP)
    assert zoo.unit(state, "stalker").shield == (80 - 30 if reached else 80)


def test_spine_crawler_hits_the_unarmored_less_and_never_moves(zoo):
    state = zoo.play(zoo.start({"enemy spine_crawler": (10, 10), "marine": (15, 10)}), loops=3 * STEP)
    assert zoo.unit(state, "marine").health == 45 - 25
    state = zoo.play(zoo.start({"enemy spine_crawler": (10, 10), "stalker": (18.7, 10)}), loops=3 * STEP)
    assert zoo.unit(state, "enemy spine_crawler").x == 10
    assert zoo.unit(state, "stalker").shield == 80


def test_spine_crawlers_armour_is_two(zoo):
    state = zoo.start({"enemy spine_crawler": (10, 10), "stalker": (15.9, 10)})
    state = zoo.play(state, {"stalker": "enemy spine_crawler"}, loops=2 * STEP)
    assert zoo.unit(state, "enemy spine_crawler").health == pytest.approx(300 - (10 + 4 - 2), abs=0.3)


@pytest.mark.parametrize(("place", "loops"), [((10, 4), 1), ((16, 10), 4), ((10, 16), 8)])
def test_spine_crawler_attacks_once_its_turret_points_there(zoo, place, loops):
    """From the south by 22.5 degrees a loop to within 11.25: after 78.75 / 22.5 = 3.5 loops, 168.75 / 22.5 = 7.5."""
    state = zoo.start({"enemy spine_crawler": (10, 10), "marine": place})
    state = zoo.play(state, loops=loops - 1)
    assert zoo.unit(state, "enemy spine_crawler").strikes_left == 0
    assert zoo.unit(zoo.play(state, loops=1), "enemy spine_crawler").strikes_left == 1


def test_two_who_shoot_in_turn_from_either_side_keep_a_spine_crawler_turning(map_arena):
    """Half a turn, 7.5 loops, and a damage point of 5.3 are more than the 8 loops of an order."""
    ring = map_arena("2s_vs_1sc")
    state = ring.start([(8.9, 17), (18.9, 17), (13.92, 20.04)], health=[80, 80, 300])
    for step in range(40):
        state = ring.step(state, [ATTACK, STOP] if step % 2 else [STOP, ATTACK])
    units = state.units
    assert float(units.health[2, 0]) < 300 - 15 * 12  # they hit it
    np.testing.assert_array_equal(units.health[:2, 0], 80)
    both = ring.start([(8.9, 17), (18.9, 17), (13.92, 20.04)], health=[80, 80, 300])
    while both.step_type[0] != 2:
        both = ring.step(both, np.where(both.units.alive.numpy()[:2, 0], ATTACK, 0))
    assert not both.units.alive.numpy()[:2].all()  # together they are lost


# Missiles


@pytest.mark.parametrize(
    ("shooter", "gap", "loops"), [("stalker", 5.0, 5), ("marauder", 5.0, 4), ("hydralisk", 4.0, 2)]
)
def test_missiles_take_their_time(zoo, shooter, gap, loops):
    """18.75, 20 and 40 map units a game second, from edge to centre, after the damage point, at what does not move."""
    weapon, radius = unit_types("liberty")[shooter].weapon, unit_types("liberty")[shooter].radius
    state = zoo.start({shooter: (10, 10), "enemy spine_crawler": (10 + radius + gap, 10)})
    assert np.ceil(gap * 16 / weapon.missile_speed) == loops
    due = max(int(np.ceil(weapon.damage_point * 16)), 1) + loops
    state = zoo.play(state, {shooter: "enemy spine_crawler"}, loops=due)
    assert zoo.unit(state, "enemy spine_crawler").health == 300
    assert zoo.unit(zoo.play(state, {shooter: "enemy spine_crawler"}, loops=1), "enemy spine_crawler").health < 300


def test_missiles_arrive_though_their_shooter_is_dead(zoo):
    state = zoo.start({"stalker": (10, 10), "enemy hydralisk": (15, 10)})
    state = zoo.play(state, {"stalker": "enemy hydralisk"}, loops=4)
    assert zoo.unit(state, "stalker").missile_target == zoo.names.index("enemy hydralisk")
    dead = zoo.ring.with_units(state, health=np.where(np.array(zoo.names) == "stalker", 0, state.units.health[:, 0]))
    assert zoo.unit(zoo.play(dead, loops=STEP), "enemy hydralisk").health < 80


def test_zealots_second_hit_is_lost_to_another_order(zoo):
    """It comes 0.28 s, 4.5 loops, after the first, while the zealot goes on with its attack."""
    state = zoo.start({"zealot": (10, 10), "enemy marauder": (11.1, 10)})
    state = zoo.play(state, {"zealot": "enemy marauder"}, loops=AT_ONCE)
    stayed = zoo.play(state, {"zealot": "enemy marauder"}, loops=STEP)
    assert zoo.unit(stayed, "enemy marauder").health == 125 - 2 * 7
    assert zoo.unit(zoo.play(state, {"zealot": STOP}, loops=STEP), "enemy marauder").health == 125 - 7


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


# Backswing


def test_enemy_stands_its_backswing_before_it_chases(zoo):
    """For 0.5 s = 8 loops after a zealot's first hit it stands, though its target leaves; in the next it walks."""
    state = zoo.start({"stalker": (10, 10), "enemy zealot": (11.2, 10)})
    loops, hit_after = 0, None
    while zoo.unit(state, "enemy zealot").x > 11.2 - 1e-4:
        state, loops = zoo.play(state, {"stalker": WEST}, loops=1), loops + 1
        if hit_after is None and zoo.unit(state, "stalker").shield < 80:
            hit_after = loops
        assert loops < 20, "the zealot never follows"
    assert hit_after <= AT_ONCE
    assert loops - hit_after == pytest.approx(8 + 1, abs=1)
    # The agent left at once, and never stopped.
    assert zoo.unit(state, "stalker").x == pytest.approx(10 - loops * 2.9531 / 16, abs=1e-2)


def test_agent_leaves_its_backswing_at_once_when_ordered_to_move(zoo):
    state = zoo.start({"zealot": (10, 10), "enemy marauder": (11.1, 10)})
    state = zoo.play(state, {"zealot": "enemy marauder"}, loops=AT_ONCE)
    assert zoo.unit(state, "enemy marauder").health == 125 - (8 - 1)  # it has hit, and now stands
    state = zoo.play(state, {"zealot": WEST}, loops=1)
    assert zoo.unit(state, "zealot").x == pytest.approx(10 - 2.25 / 16, abs=1e-4)


def test_marauder_has_no_backswing(zoo):
    # In reach up to 6 + 0.5625 + 0.625 = 7.1875; beyond that it remembers who hit it last.
    places = {"stalker": (10, 10), "enemy marauder": (17.1, 10)}
    state = zoo.start(places, last_attacker={"enemy marauder": zoo.names.index("stalker")})
    state = zoo.play(state, {"stalker": WEST}, loops=STEP)
    assert zoo.unit(state, "stalker").shield == 80 - 20
    assert zoo.unit(state, "enemy marauder").x < 17.1 - 0.5


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
        ("so_many_baneling", None),
        ("so_many_baneling", (3.5, 4.5)),  # at the far end
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
