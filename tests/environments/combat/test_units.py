"""Units: the game's data and the profiles of reimplementations, value by value."""

import pytest

from tf_marl.environments.combat.environment import Combat
from tf_marl.environments.combat.scenarios import scenario
from tf_marl.environments.combat.units import unit_types

PROTOSS = {"stalker", "zealot", "colossus"}
# The game's Liberty data. unit: health, shield, armour, attributes, speed, radius, separation radius, SMAC's cooldown
UNITS = {
    "marine": (45, 0, 0, {"light", "biological"}, 2.25, 0.375, 0.375, 15),
    "marauder": (125, 0, 1, {"armored", "biological"}, 2.25, 0.5625, 0.5, 25),
    "medivac": (150, 0, 1, {"armored", "mechanical"}, 2.75, 0.75, 0.75, 200),  # of its energy, not its cooldown
    "stalker": (80, 80, 1, {"armored", "mechanical"}, 2.9531, 0.625, 0.625, 35),
    "zealot": (100, 50, 1, {"light", "biological"}, 2.25, 0.5, 0.375, 22),
    "colossus": (200, 150, 1, {"armored", "mechanical", "massive"}, 2.25, 1, 0.75, 24),
    "zergling": (35, 0, 0, {"light", "biological"}, 2.9531, 0.375, 0.375, 11),
    "baneling": (30, 0, 0, {"biological"}, 2.5, 0.375, 0.375, 1),
    "hydralisk": (80, 0, 0, {"light", "biological"}, 2.25, 0.625, 0.5, 10),
    "spine_crawler": (300, 0, 2, {"armored", "biological", "structure"}, 0, 0.875, 0.875, 15),
}
# unit: damage, hits, damage to light and to armored units, range, period, damage point, backswing, reaches flyers
WEAPONS = {
    "marine": (6, 1, 6, 6, 5, 0.8608, 0.05, 0.75, True),
    "marauder": (10, 1, 10, 20, 6, 1.5, 0, 0, False),
    "stalker": (10, 1, 10, 14, 6, 1.44, 0.167, 0.5, True),
    "zealot": (8, 2, 8, 8, 0.1, 1.2, 0, 0.5, False),
    "colossus": (20, 2, 20, 20, 6, 2.2, 0.0832, 0.5, False),
    "zergling": (5, 1, 5, 5, 0.1, 0.696, 0.167, 0.5, False),
    "baneling": (20, 1, 35, 20, 0.25, 0.833, 0, 0.5, False),
    "hydralisk": (12, 1, 12, 12, 5, 0.83, 0.208, 0.5, True),
    "spine_crawler": (25, 1, 25, 30, 7, 1.6, 0.3332, 0.5, False),
}
RAW_TYPE_IDS = dict(
    marine=48, marauder=51, medivac=54, zealot=73, stalker=74, colossus=4, baneling=9, zergling=105, hydralisk=107,
    spine_crawler=98,
)  # fmt: skip


def test_there_are_ten_units():
    assert set(unit_types("liberty")) == set(UNITS) == set(RAW_TYPE_IDS) == {*WEAPONS, "medivac"}


@pytest.mark.parametrize("name", UNITS)
def test_unit_is_the_games(name):
    unit = unit_types("liberty")[name]
    body = (unit.hit_points, unit.shield_points, unit.armor, set(unit.attributes), unit.speed)
    assert (*body, unit.radius, unit.separation_radius, unit.cooldown_normaliser) == UNITS[name]
    assert unit.type_id == RAW_TYPE_IDS[name]
    zerg = name in {"zergling", "baneling", "hydralisk", "spine_crawler"}
    assert unit.race == ("P" if name in PROTOSS else "Z" if zerg else "T")
    assert unit.health_regen == (0.2734 if zerg else 0)
    assert (unit.shield_regen, unit.shield_regen_delay) == ((2, 10) if name in PROTOSS else (0, 0))
    assert unit.flies == (name == "medivac")
    assert unit.cliff_walk == (name == "colossus")
    assert set(unit.planes) == {"medivac": {"air"}, "colossus": {"ground", "air"}}.get(name, {"ground"})


@pytest.mark.parametrize("name", WEAPONS)
def test_weapon_is_the_games(name):
    types = unit_types("liberty")
    weapon = types[name].weapon
    # Hydralisks are light without more, stalkers armored.
    to_light, to_armored = weapon.damage_to(types["hydralisk"]), weapon.damage_to(types["stalker"])
    times = weapon.range, weapon.period, weapon.damage_point, weapon.backswing
    shown = (weapon.damage, weapon.hits, to_light, to_armored, *times, types[name].can_hit(types["medivac"]))
    assert shown == WEAPONS[name]
    assert types[name].can_hit(types["marine"])
    assert types[name].can_hit(types["colossus"])
    assert weapon.scan_range == 5  # at least; weapons of longer range look as far as they reach


def test_special_weapons_are_the_games():
    types = unit_types("liberty")
    assert types["zealot"].weapon.hit_interval == 0.28
    line = types["colossus"].weapon.line
    assert (line.half_length, line.scan_radius) == (1.25, 0.15)
    assert types["baneling"].weapon.burst_radius == 2.2
    assert types["baneling"].weapon.damage_to(types["spine_crawler"]) == 80
    assert [name for name, unit in types.items() if unit.weapon and unit.weapon.line] == ["colossus"]
    assert [name for name, unit in types.items() if unit.weapon and unit.weapon.burst_radius] == ["baneling"]
    heal = types["medivac"].heal
    assert (heal.hit_points_per_second, heal.energy_per_hit_point, heal.range) == (9, 0.33, 4)
    assert (heal.scan_range, heal.scan_energy) == (6, 5)
    assert (heal.energy_start, heal.energy_max, heal.energy_regen) == (50, 200, 0.5625)
    assert types["medivac"].weapon is None


@pytest.mark.parametrize(
    ("profile", "name", "expected"),
    [
        # hit points, shield, damage, to armored, hits, range, period, speed
        ("smaclite", "marine", (45, 0, 6, 6, 1, 5, 0.61, 3.15)),
        ("smaclite", "marauder", (125, 0, 10, 20, 1, 6, 1.07, 3.15)),
        ("smaclite", "stalker", (80, 80, 13, 18, 1, 6, 1.34, 4.13)),
        ("smaclite", "zealot", (100, 50, 8, 8, 2, 0.1, 0.86, 3.15)),
        ("smaclite", "colossus", (200, 150, 10, 10, 2, 7, 1.07, 3.15)),
        ("smaclite", "zergling", (35, 0, 5, 5, 1, 0.1, 0.497, 4.13)),
        ("smaclite", "baneling", (30, 0, 80, 80, 1, 0.25, 1, 3.15)),
        ("smaclite", "spine_crawler", (300, 0, 25, 30, 1, 7, 1.32, 0)),
        ("smax", "marine", (45, 0, 9, 9, 1, 5, 0.61, 3.15)),
        ("smax", "marauder", (125, 0, 10, 10, 1, 6, 1.07, 2.25)),
        ("smax", "stalker", (160, 0, 13, 13, 1, 6, 1.87, 4.13)),
        ("smax", "zealot", (150, 0, 8, 8, 1, 2, 0.86, 3.15)),
        ("smax", "zergling", (35, 0, 5, 5, 1, 2, 0.5, 4.13)),
        ("smax", "hydralisk", (80, 0, 12, 12, 1, 5, 0.59, 3.15)),
    ],
)
def test_profiles_hold_the_values_of_the_reimplementations(profile, name, expected):
    unit, armored = unit_types(profile)[name], unit_types("liberty")["stalker"]
    weapon = unit.weapon
    hits = weapon.damage, weapon.damage_to(armored), weapon.hits
    assert (unit.hit_points, unit.shield_points, *hits, weapon.range, weapon.period, unit.speed) == expected
    assert weapon.damage_point == weapon.backswing == 0  # an instant hit
    assert unit.armor == (UNITS[name][2] if profile == "smaclite" else 0)
    # SMAX measures ranges from centre to centre, which is from edge to edge of points.
    assert unit.radius == (0 if profile == "smax" else 0.5 if name == "spine_crawler" else UNITS[name][5])


def test_smaclites_specials():
    types = unit_types("smaclite")
    assert types["colossus"].weapon.damage_to(types["zergling"]) == 15  # 5 more for the light
    assert 2 * types["colossus"].weapon.line.half_length == 2.8
    assert 2 * types["colossus"].weapon.line.scan_radius == 0.3
    assert types["baneling"].weapon.burst_radius == 2.2
    assert types["medivac"].speed == 3.5
    assert 1 / types["medivac"].heal.energy_per_hit_point == pytest.approx(3, rel=1e-3)
    assert types["zergling"].health_regen == 0.38


def test_profile_changes_the_units_of_a_map_and_nothing_else():
    ours, theirs = scenario("3s5z"), scenario("3s5z", "smax")
    assert {unit.hit_points for unit in theirs.units} == {160, 150}
    assert ours.episode_limit == theirs.episode_limit
    assert Combat(theirs, 1).task.max_reward == 3 * 160 + 5 * 150 + 10 * 8 + 200


@pytest.mark.parametrize(
    ("profile", "map_name", "unit"),
    [("smaclite", "6h_vs_8z", "hydralisk"), ("smax", "MMM", "medivac"), ("smax", "2s_vs_1sc", "spine_crawler")],
)
def test_map_whose_units_a_profile_lacks_is_refused_by_name(profile, map_name, unit):
    with pytest.raises(ValueError, match=unit) as refused:
        scenario(map_name, profile)
    message = str(refused.value)
    assert profile in message
    assert map_name in message
    assert "\n" not in message
