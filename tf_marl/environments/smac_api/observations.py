"""This module gives observations, state and available actions as SMAC does."""

from typing import Any

import numpy as np

from tf_marl.environments.smac_api.battle import Battle


class Observations(Battle):
    """Holds SMAC's methods for observations, state and available actions, and for their sizes.

    Those that tell of the battle, not of sizes, raise RuntimeError before the first `reset`.
    """

    def get_obs(self) -> list[np.ndarray]:
        """Returns a list of N observations, float32 [O] each."""
        return list(self.now.obs.copy())

    def get_obs_agent(self, agent_id: int) -> np.ndarray:
        """Returns the observation of one agent, float32 [O].

        Args:
            agent_id: 0 to N - 1.
        """
        return self.now.obs[agent_id].copy()

    def get_state(self) -> np.ndarray:
        """Returns the global state, float32 [S]."""
        return self.now.obs.flatten() if self.options.obs_instead_of_state else self.now.state.copy()

    def get_state_dict(self) -> dict[str, Any]:
        """Returns the global state in parts, by name.

        The parts are `allies` and `enemies`, float64 [rows, columns]; with `state_last_action` also `last_action`,
        float64 [N, A] one-hot; and with `state_timestep_number` also `timestep`, a float.
        """
        task, rows = self.program.world.task, self.now.state.astype(np.float64)
        agents_end = self.n_agents * task.agent_state_columns
        enemies_end = agents_end + self.n_enemies * task.enemy_state_columns
        parts: dict[str, Any] = {
            "allies": rows[:agents_end].reshape(self.n_agents, -1),
            "enemies": rows[agents_end:enemies_end].reshape(self.n_enemies, -1),
        }
        if self.options.state_last_action:
            parts["last_action"] = self.last_action.copy()
        if self.options.state_timestep_number:
            parts["timestep"] = self._episode_steps / self.episode_limit
        return parts

    def get_avail_actions(self) -> list[list[int]]:
        """Returns a list of N lists of A numbers: 1 for an action that the agent may take, else 0."""
        return self.now.avail_actions.astype(int).tolist()

    def get_avail_agent_actions(self, agent_id: int) -> list[int]:
        """Returns a list of A numbers: 1 for an action that the agent may take, else 0.

        Args:
            agent_id: 0 to N - 1.
        """
        return self.now.avail_actions[agent_id].astype(int).tolist()

    def get_obs_size(self) -> int:
        """Returns O, the size of an observation."""
        return self.program.world.task.obs_size

    def get_state_size(self) -> int:
        """Returns S, the size of the global state."""
        task = self.program.world.task
        return self.n_agents * task.obs_size if self.options.obs_instead_of_state else task.state_size

    def get_total_actions(self) -> int:
        """Returns A, the number of actions."""
        return self.n_actions

    def get_obs_move_feats_size(self) -> int:
        """Returns the size of an observation's first part, which is about moves."""
        return self.program.world.task.move_columns

    def get_obs_enemy_feats_size(self) -> tuple[int, int]:
        """Returns the rows and columns of an observation's second part, which is about the enemies."""
        return self.n_enemies, self.program.world.task.enemy_columns

    def get_obs_ally_feats_size(self) -> tuple[int, int]:
        """Returns the rows and columns of an observation's third part, which is about the other agents."""
        return self.n_agents - 1, self.program.world.task.agent_columns

    def get_obs_own_feats_size(self) -> int:
        """Returns the size of an observation's last part, which is about the agent itself.

        The time belongs to this part, if it is observed.
        """
        return self.program.world.task.own_columns

    def get_ally_num_attributes(self) -> int:
        """Returns how many columns the agent rows of the state have."""
        return len(self.ally_state_attr_names)

    def get_enemy_num_attributes(self) -> int:
        """Returns how many columns the enemy rows of the state have."""
        return len(self.enemy_state_attr_names)

    def reward_battle(self) -> float:
        """Returns what damage and deaths earned in the last step.

        That is the reward before the bonus for a win or defeat and before scaling.
        """
        return float(self.now.outcome[4])

    def get_env_info(self) -> dict[str, Any]:
        """Returns the sizes that a learner needs and the column names of the state's rows, by name.

        It may be called before the first `reset`.
        """
        return {
            "state_shape": self.get_state_size(),
            "obs_shape": self.get_obs_size(),
            "n_actions": self.n_actions,
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
            "agent_features": self.ally_state_attr_names,
            "enemy_features": self.enemy_state_attr_names,
        }
