"""This module knows SMAC's constructor arguments: their order, and which of them mean nothing without the game."""

import functools
import warnings
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from tf_marl.environments.combat.options import Options

# SMACv2's arguments that the embedded battle has, as options of the same names.
SMACV2S = (
    *("obs_own_pos", "use_unit_ranges", "min_attack_range", "conic_fov", "num_fov_actions", "prob_obs_enemy"),
    "action_mask",
)
# The options that SMAC keeps as public attributes.
SETTINGS = [
    field.name
    for field in fields(Options)
    if field.name.startswith(("obs_", "state_", "reward_")) and field.name not in (*SMACV2S, "reward_scale_of")
]

# SMAC's arguments, in SMAC's order.
_ORDER = [
    *("map_name", "step_mul", "move_amount", "difficulty", "game_version", "seed", "continuing_episode"),
    *SETTINGS,
    *("replay_dir", "replay_prefix", "window_size_x", "window_size_y", "heuristic_ai", "heuristic_rest", "debug"),
]
REPLAYS = "tf-marl evaluate --replay=FILE.html shows battles"
# Arguments that need the game, so that only their defaults are allowed.
OF_THE_GAME = {
    "replay_dir": f"there is no game to write replays; {REPLAYS}",
    "replay_prefix": f"there is no game to write replays; {REPLAYS}",
    "heuristic_ai": "there is no built-in player for the agents",
}
# Arguments that mean nothing without the game.
_WITHOUT_EFFECT = {
    "game_version": "there is no game to have a version",
    "heuristic_rest": "there is no built-in player for the agents",
    "debug": "nothing is logged",
}


def smacs_arguments(init: Callable[..., None]) -> Callable[..., None]:
    """Decorates a constructor so that it takes its arguments as SMAC's does.

    They may also be given by position, in SMAC's order, and NumPy scalars become Python's numbers. An argument that
    means nothing without the game gets a warning.

    Args:
        init: the constructor; it takes its arguments by name.
    Returns:
        The constructor for users. It raises TypeError if there are too many arguments by position, or if one is given
        both by position and by name.
    """

    @functools.wraps(init)
    def taking(self: Any, *by_position: Any, **by_name: Any) -> None:
        if len(by_position) > len(_ORDER):
            raise TypeError(f"CombatEnv: SMAC has {len(_ORDER)} arguments, not {len(by_position)}; name ours")
        given = dict(zip(_ORDER, by_position, strict=False))
        if twice := given.keys() & by_name:
            raise TypeError(f"CombatEnv: given by position and by name: {', '.join(twice)}")
        given |= by_name
        init(self, **{name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()})
        for name, why in _WITHOUT_EFFECT.items():
            if getattr(self, name):
                warnings.warn(f"CombatEnv.{name}: {why}; it changes nothing", stacklevel=2)

    return taking
