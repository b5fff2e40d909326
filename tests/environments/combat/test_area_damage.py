"""Beams and bursts, by worked battles: what happens, how much, and to whom.

A game second is 16 game loops, an env step 8. Ranges are edge to edge: from centre to centre they end at the range
plus both radii. Radii: marine, zergling, baneling 0.375; zealot 0.5; marauder 0.5625; stalker, hydralisk 0.625;
medivac 0.75; spine crawler 0.875; colossus 1.
"""

import pytest

STOP = 1
STEP = 8  # game loops
AT_ONCE = 2  # game loops: by then a hit without a damage point has landed


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
