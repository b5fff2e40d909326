"""This module holds SMAC's options under SMAC's own names, and three options that SMAC does not have."""

from typing import Literal

import pydantic

from tf_marl.config import STRICT, Count

NonNegative = pydantic.NonNegativeFloat


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Options:
    """Holds the options that change the task on a map. The defaults are SMAC's.

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
        enemy: who leads the enemies: `game` for the rule in `physics.py`; or a script that chooses among SMAC's actions
            at every env step, which is `random`, `nearest` or `focus_fire`.
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
    enemy: Literal["game", "random", "nearest", "focus_fire"] = "game"

    @pydantic.field_validator("obs_terrain_height")
    @classmethod
    def _heights_are_unknown(cls, value: bool) -> bool:
        if value:
            raise ValueError("the heights of the maps' ground are in the game's files only; leave it False")
        return value
