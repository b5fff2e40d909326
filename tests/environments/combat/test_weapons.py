"""Single shots: turrets, missiles, backswing, by worked battles: what happens, how much, and to whom.

A game second is 16 game loops, an env step 8. Ranges are edge to edge: from centre to centre they end at the range
plus both radii. Radii: marine, zergling, baneling 0.375; zealot 0.5; marauder 0.5625; stalker, hydralisk 0.625;
medivac 0.75; spine crawler 0.875; colossus 1.
"""

import numpy as np
import pytest

from tf_marl.environments.combat.units import unit_types

STOP, WEST, ATTACK = 1, 5, 6
STEP = 8  # game loops
AT_ONCE = 2  # game loops: by then a hit without a damage point has landed


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
