"""All parts of `CombatEnv` share what this module says about the battle."""

import numpy as np

from tf_marl.environments.combat.options import Options
from tf_marl.environments.smac_api.program import Facts, Program


class Battle:
    """Holds a battle as it stands, and SMAC's attributes for its sizes."""

    program: Program  # shared by all environments of one map with the same options
    options: Options
    facts: Facts | None  # None before the first `reset`
    map_type: str
    n_agents: int
    n_enemies: int
    n_actions: int
    n_actions_no_attack: int
    canonical_fov_directions: np.ndarray  # [F, 2]
    conic_fov_angle: float  # radians
    capability_attr_names: list[str]
    episode_limit: int  # env steps
    last_action: np.ndarray  # [N, A], one-hot
    ally_state_attr_names: list[str]
    enemy_state_attr_names: list[str]
    map_x: int  # map units
    map_y: int
    pathing_grid: np.ndarray  # [32, 32] bool, indexed [x, y]
    _episode_steps: int  # SMAC's name

    @property
    def now(self) -> Facts:
        """Returns the facts about the battle as it stands.

        Raises:
            RuntimeError: there is no battle yet.
        """
        if self.facts is None:
            raise RuntimeError("there is no battle yet; call reset() first")
        return self.facts

    def require(self, agent: int, action: int) -> None:
        """Checks that an agent may take an action.

        Args:
            agent: the agent's id, 0 to N - 1.
            action: the number of the action.
        Raises:
            AssertionError: the agent may not take it; the message lists the actions that it may take.
            RuntimeError: there is no battle yet.
        """
        available = self.now.avail_actions[agent]
        if not (0 <= action < self.n_actions and available[action]):
            legal = np.flatnonzero(available).tolist()
            raise AssertionError(f"agent {agent} cannot take action {action}; it can take one of {legal}")
