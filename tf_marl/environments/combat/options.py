"""This module holds SMAC's and SMACv2's options under their own names, and some options that neither has."""

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic

from tf_marl.config import STRICT, Count

SCRIPTS = ("random", "nearest", "focus_fire", "weakest", "kite", "retreat", "split")  # `scripts.py` holds their rules
ENEMIES = ("game", *SCRIPTS)  # who may lead the enemies
NonNegative = pydantic.NonNegativeFloat


def _leaders(enemy: Any) -> str | dict[str, float]:
    """Checks who is to lead the enemies, and writes it in one way.

    Args:
        enemy: one of `ENEMIES`; a list of them, in which one may come twice to count twice; or weights by name.
    Returns:
        The name, if it is one, and else the weights by name, in the order of `ENEMIES`.
    Raises:
        ValueError: a name is unknown, or a weight is no positive number.
    """
    names = list(enemy) if isinstance(enemy, Mapping | list | tuple) else [enemy]
    if not names or any(name not in ENEMIES for name in names):
        raise ValueError(f"should be one of these, or several: {', '.join(ENEMIES)}")
    weights = enemy if isinstance(enemy, Mapping) else collections.Counter(names)
    for weight in weights.values():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ValueError("the weight of each enemy should be a positive number")
    if len(weights) == 1:
        return next(iter(weights))
    return {name: float(weights[name]) for name in ENEMIES if name in weights}


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Options:
    """Holds the options that change the task on a map. The defaults are SMAC's, and on SMACv2's scenarios SMACv2's.

    Args:
        step_mul: game loops per env step.
        move_amount: how far away a move order aims, in map units. A move is available if the ground half as far away is
            pathable.
        obs_all_health: whether agents observe the health and shields of the other units.
        obs_own_health: whether agents observe their own health and shields. It is always on with `obs_all_health`.
        obs_last_action: whether agents observe the last actions of the other agents.
        obs_pathing_grid: whether agents observe for 8 points around them if the ground there is pathable.
        obs_terrain_height: must be False, because only the game's files hold the heights of the ground.
        obs_instead_of_state: whether the state consists of all agents' observations, one after the other.
        obs_timestep_number: whether agents observe the env step as a fraction of the limit. (SMAC's observation then
            has one number more than SMAC reports. Here it has as many as reported.)
        state_last_action: whether the state holds the last actions of all agents.
        state_timestep_number: whether the state holds the env step as a fraction of the limit.
        reward_sparse: whether the reward is 1 for a win, -1 for a defeat and 0 otherwise. As in SMAC, `reward_scale`
            also scales these numbers, so turn it off with this option.
        reward_only_positive: whether the reward is the absolute value of what the enemies lost, regardless of what the
            agents lost.
        reward_death_value: reward for the death of an enemy.
        reward_win: reward for a win, at the end.
        reward_defeat: reward for a defeat, at the end.
        reward_negative_scale: weight of the agents' losses, where `reward_only_positive` is off.
        reward_scale: whether rewards are divided by the largest return on the map and multiplied by
            `reward_scale_rate`.
        reward_scale_rate: the return of a clean win, where `reward_scale` is on.
        shuffle_enemies: whether each episode lists the enemies in a new order, as the game does. Otherwise the order is
            always the map's.
        profile: which unit values to use: `liberty` for the game's own at version 4.10; `multiplayer` for those of
            newer clients; `smaclite` or `smax` for those of the re-implementations of that name.
        enemy: who leads the enemies: `game` for the rule in `physics.py`; or one of `SCRIPTS`, which chooses among
            SMAC's actions at every env step. Of several, each episode draws one: `("game", "kite")` with equal
            probability, `{"game": 3, "kite": 1}` in proportion to these weights.
        obs_own_pos: whether agents observe where they are on the map. None is True on SMACv2's scenarios, and else
            False.
        use_unit_ranges: whether each type of unit has a sight range and an attack distance of its own. None is True on
            SMACv2's scenarios, and else False.
        min_attack_range: the least attack distance with `use_unit_ranges`, in map units.
        conic_fov: whether agents see and attack only what is in a cone before them. They turn by `num_fov_actions` more
            actions. SMACv2 takes the arctangent of a quotient, so an agent that looks away from the east or the west
            also sees part of the opposite side; that is so here, too.
        num_fov_actions: how many directions an agent can look in; the cone's angle is a full turn divided by it.
        prob_obs_enemy: the probability with which an agent may see an enemy that another agent has seen first. Below 1
            that is SMACv2's extended partial observability.
        action_mask: whether an attack is available only within the attack distance. Without it, an agent may attack
            every living enemy; where that is too far away, its last order goes on.
        reward_scale_of: whose largest return `reward_scale` divides by in SMACv2's scenarios: that of the battle's
            first episode, which is SMACv2's rule, or that of each episode, so that every clean win returns the same.
        wipe_rows: whether an enemy that an agent may not see wipes the observed rows of all enemies before it. That is
            a fault of SMACv2 since June 2023 (oxwhirl/smacv2#50).
    """

    step_mul: Count = 8
    move_amount: pydantic.PositiveFloat = 2.0
    obs_all_health: bool = True
    obs_own_health: bool = True
    obs_last_action: bool = False
    obs_pathing_grid: bool = False
    obs_terrain_height: bool = False
    obs_instead_of_state: bool = False
    obs_timestep_number: bool = False
    state_last_action: bool = True
    state_timestep_number: bool = False
    reward_sparse: bool = False
    reward_only_positive: bool = True
    reward_death_value: NonNegative = 10.0
    reward_win: NonNegative = 200.0
    reward_defeat: float = 0.0
    reward_negative_scale: NonNegative = 0.5
    reward_scale: bool = True
    reward_scale_rate: pydantic.PositiveFloat = 20.0
    shuffle_enemies: bool = False
    profile: Literal["liberty", "multiplayer", "smaclite", "smax"] = "liberty"
    enemy: Annotated[str | dict[str, float], pydantic.BeforeValidator(_leaders)] = "game"
    obs_own_pos: bool | None = None
    use_unit_ranges: bool | None = None
    min_attack_range: NonNegative = 2.0
    conic_fov: bool = False
    num_fov_actions: Count = 12
    prob_obs_enemy: Annotated[float, pydantic.Field(ge=0, le=1)] = 1.0
    action_mask: bool = True
    reward_scale_of: Literal["first_episode", "episode"] = "first_episode"
    wipe_rows: bool = False

    @pydantic.field_validator("obs_terrain_height")
    @classmethod
    def _heights_are_unknown(cls, value: bool) -> bool:
        if value:
            raise ValueError("the heights of the maps' ground are in the game's files only; leave it False")
        return value

    def __hash__(self) -> int:
        """Returns a hash that equal options share, although a dict has none."""
        return hash(repr(dataclasses.astuple(self)))

    @property
    def enemies(self) -> dict[str, float]:
        """Returns the weights of all who may lead the enemies, by name, in the order of `ENEMIES`."""
        return self.enemy if isinstance(self.enemy, dict) else {self.enemy: 1.0}
