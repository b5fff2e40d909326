"""Healing and recovery, by worked battles: what happens, how much, and to whom.

A game second is 16 game loops, an env step 8. Ranges are edge to edge: from centre to centre they end at the range
plus both radii. Radii: marine, zergling, baneling 0.375; zealot 0.5; marauder 0.5625; stalker, hydralisk 0.625;
medivac 0.75; spine crawler 0.875; colossus 1.
"""

import pytest

SECOND, STEP = 16, 8  # game loops


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
