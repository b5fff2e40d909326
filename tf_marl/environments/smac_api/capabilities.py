"""This module knows SMACv2's `capability_config`, which says how teams and places are drawn."""

from collections.abc import Mapping
from typing import Any

from tf_marl.environments.combat.scenarios import MAP_SIZE
from tf_marl.environments.combat.units import DATA

_PREFIX = "10gen_"  # SMACv2's maps are called 10gen_protoss, 10gen_terran and 10gen_zerg
_KEYS = ("n_units", "n_enemies", "team_gen", "start_positions")
_STARTS = ("surrounded_and_reflect", "surrounded", "reflect_position")


def drawn_by(map_name: str, config: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns the arguments of `scenarios.drawn`, without the profile, that a `capability_config` stands for.

    Args:
        map_name: one of SMACv2's maps, such as `10gen_terran`.
        config: SMACv2's `capability_config`.
    Raises:
        ValueError: the embedded battle cannot draw so; the message names the key.
    """
    races = DATA["smacv2"]["races"]
    race = map_name.removeprefix(_PREFIX)
    if race not in races or race == map_name:
        raise ValueError(f"CombatEnv.map_name: with capability_config, use one of {', '.join(map(_map_name, races))}")

    def refuse(key: str, fix: str) -> None:
        raise ValueError(f"CombatEnv.capability_config: {key}: {fix}")

    for key in config:
        if key not in _KEYS:
            refuse(key, f"the embedded battle draws teams and places alone; use {', '.join(_KEYS)}")
    for key in _KEYS:
        if key not in config:
            refuse(key, "it is missing")
    team, start = config["team_gen"], config["start_positions"]
    if team.get("dist_type") != "weighted_teams":
        refuse("team_gen.dist_type", "use 'weighted_teams'")
    if not team.get("observe", True):
        refuse("team_gen.observe", "agents observe the types of the others; use True")
    types = races[race]["types"]
    if unknown := set(team["unit_types"]) - set(types):
        refuse("team_gen.unit_types", f"{', '.join(sorted(unknown))} not among {', '.join(types)}")
    weights = dict(zip(team["unit_types"], team["weights"], strict=True))
    if start.get("dist_type") not in _STARTS:
        refuse("start_positions.dist_type", f"use one of {', '.join(_STARTS)}")
    if (start.get("map_x"), start.get("map_y")) != (MAP_SIZE, MAP_SIZE):
        refuse("start_positions.map_x", f"the maps are {MAP_SIZE} wide and high")
    # SMACv2's p is the probability of a mirrored start.
    surrounded = {"surrounded": 1.0, "reflect_position": 0.0}.get(start["dist_type"])
    return (
        race,
        int(config["n_units"]),
        int(config["n_enemies"]),
        tuple(float(weights.get(name, 0.0)) for name in types),
        tuple(team.get("exception_unit_types", ())),
        1.0 - float(start["p"]) if surrounded is None else surrounded,
    )


def _map_name(race: str) -> str:
    return _PREFIX + race
