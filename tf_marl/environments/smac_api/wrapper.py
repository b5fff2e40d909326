"""This module holds the class by which users of SMACv2 make its environment."""

from collections.abc import Mapping
from typing import Any

from tf_marl.environments.smac_api.environment import CombatEnv


class StarCraftCapabilityEnvWrapper:
    """Plays SMACv2's battles: a drop-in for `smacv2`'s class of this name that needs no StarCraft II.

    It has the methods and attributes of `CombatEnv`, which is its attribute `env`.

        env = StarCraftCapabilityEnvWrapper(map_name="10gen_terran", capability_config=config, conic_fov=False,
            use_unit_ranges=True, min_attack_range=2, obs_own_pos=True)

    Args:
        capability_config: SMACv2's dict. It may hold `n_units`, `n_enemies`, `team_gen` (`weighted_teams`) and
            `start_positions` (`surrounded_and_reflect`, `surrounded` or `reflect_position`).
        **kwargs: those of `CombatEnv`, among them `map_name`: `10gen_protoss`, `10gen_terran` or `10gen_zerg`.
    Raises:
        TypeError: there is no such argument.
        ValueError: a value is wrong, or needs the game; the message names it.
    """

    def __init__(self, *, capability_config: Mapping[str, Any], **kwargs: Any):
        self.distribution_config = capability_config
        self.env = CombatEnv(capability_config=capability_config, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # of a copy that is not filled in yet
            raise AttributeError(name)
        return getattr(self.env, name)
