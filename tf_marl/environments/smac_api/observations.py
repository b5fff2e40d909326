"""What the agents and the learner get to know."""

from typing import Any

import numpy as np

from tf_marl.environments.smac_api.battle import Battle


class Observations(Battle):
    """Observations, states and what may be done, as arrays; and their sizes."""

    def get_obs(self) -> list[np.ndarray]:
        """N observations, float32 [O]."""
        return list(self.now.obs.copy())

    def get_obs_agent(self, agent_id: int) -> np.ndarray:
        """Float32 [O]."""
        return self.now.obs[agent_id].copy()

    def get_state(self) -> np.ndarray:
        """Float32 [S]."""
        return self.now.obs.flatten() if self.options.obs_instead_of_state else self.now.state.copy()

    def get_state_dict(self) -> dict[str, Any]:
        """The global state in parts: `allies`, `enemies`, `last_action` float64 [rows, columns], `timestep` float."""
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
        """N lists of A: 1 for what the agent may do, else 0."""
        return self.now.avail_actions.astype(int).tolist()

    def get_avail_agent_actions(self, agent_id: int) -> list[int]:
        """A times 0 or 1."""
        return self.now.avail_actions[agent_id].astype(int).tolist()

    def get_obs_size(self) -> int:
        return self.program.world.task.obs_size

    def get_state_size(self) -> int:
        task = self.program.world.task
        return self.n_agents * task.obs_size if self.options.obs_instead_of_state else task.state_size

    def get_total_actions(self) -> int:
        return self.n_actions

    def get_obs_move_feats_size(self) -> int:
        """Of an observation's first part, on moves; enemies, allies and the agent itself follow."""
        return self.program.world.task.move_columns

    def get_obs_enemy_feats_size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_enemies, self.program.world.task.enemy_columns

    def get_obs_ally_feats_size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_agents - 1, self.program.world.task.agent_columns

    def get_obs_own_feats_size(self) -> int:
        """With the time, if that is observed."""
        return self.program.world.task.own_columns

    def get_ally_num_attributes(self) -> int:
        """Columns of the state's agent rows."""
        return len(self.ally_state_attr_names)

    def get_enemy_num_attributes(self) -> int:
        """Columns of the state's enemy rows."""
        return len(self.enemy_state_attr_names)

    def reward_battle(self) -> float:
        """What damage and deaths of the last step are worth: the reward without end bonuses and scale."""
        return float(self.now.outcome[4])

    def get_env_info(self) -> dict[str, Any]:
        """The sizes that a learner needs, and the column names of the state's rows; before the first `reset`, too."""
        return {
            "state_shape": self.get_state_size(),
            "obs_shape": self.get_obs_size(),
            "n_actions": self.n_actions,
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
            "agent_features": self.ally_state_attr_names,
            "enemy_features": self.enemy_state_attr_names,
        }
