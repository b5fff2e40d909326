"""SMAC's own options, under SMAC's own names, and three of ours."""

from typing import Literal

import pydantic

from tf_marl.config import STRICT, Count

NonNegative = pydantic.NonNegativeFloat


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Options:
    """What changes the task on a map; the defaults are SMAC's.

    Args:
        step_mul: game loops per env step.
        move_amount: map units a move order aims at; a move is available if the ground half as far is pathable.
        obs_all_health: observe health and shields of the others.
        obs_own_health: observe one's own; always on with `obs_all_health`.
        obs_last_action: observe the other agents' last actions.
        obs_pathing_grid: observe whether 8 points around are pathable.
        obs_terrain_height: cannot be had; the heights of the ground are in the game's files only.
        obs_instead_of_state: the state is all observations, one after the other.
        obs_timestep_number: observe the step as a fraction of the limit; the size is as reported (SMAC's is one off).
        state_last_action: the state holds all agents' last actions.
        state_timestep_number: the state holds the step as a fraction of the limit.
        reward_sparse: +1 for a win, -1 for a defeat, else 0. SMAC scales it too: turn `reward_scale` off with it.
        reward_only_positive: the reward is the absolute value of what the enemies lost, whatever the agents lose.
        reward_death_value: for an enemy's death.
        reward_win, reward_defeat: at the end.
        reward_negative_scale: weight of the agents' losses, without `reward_only_positive`.
        reward_scale: divide the reward by the map's largest return over `reward_scale_rate`.
        reward_scale_rate: what a clean win returns.
        shuffle_enemies: a new order of the enemies in each episode, as in the game; else always the map's.
        profile: unit values: `liberty`, the game's own at 4.10; `multiplayer`, those of newer clients; `smaclite` or
            `smax`, those of the re-implementations.
        enemy: who leads the enemies: `game`, the rule in `physics.py`; or a script, which chooses among SMAC's actions
            every step: `random`, `nearest` or `focus_fire`.
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
