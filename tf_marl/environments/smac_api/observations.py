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

    def get_cap_size(self) -> int:
        """Returns the size of an agent's capabilities: the number of type bits."""
        return len(self.capability_attr_names)

    def get_obs_ally_capability_size(self) -> int:
        """Returns how many columns of a row about another agent are its capabilities."""
        return self.get_cap_size()

    def get_obs_feature_names(self) -> list[str]:
        """Returns SMACv2's names of the O numbers in an observation, as agent 0 sees them."""
        options, task = self.options, self.program.world.task
        names = [f"move_action_{way}" for way in ("north", "south", "east", "west")]
        names += [f"pathing_grid_{k}" for k in range(8)] * options.obs_pathing_grid

        def types(who: str) -> list[str]:
            return [f"{who}_bit_{bit}" for bit in range(self.get_cap_size())]

        scenario = self.program.world.scenario
        for j in range(self.n_enemies):
            names += [f"enemy_{what}_{j}" for what in ("shootable", "distance", "relative_x", "relative_y")]
            names += [f"enemy_health_{j}"] * options.obs_all_health
            names += [f"enemy_shield_{j}"] * (options.obs_all_health and scenario.enemy_shields)
            names += types(f"enemy_unit_type_{j}")
        for i in range(1, self.n_agents):
            names += [f"ally_{what}_{i}" for what in ("visible", "distance", "relative_x", "relative_y")]
            names += [f"ally_health_{i}"] * options.obs_all_health
            names += [f"ally_shield_{i}"] * (options.obs_all_health and scenario.agent_shields)
            names += types(f"ally_unit_type_{i}")
            names += [f"ally_last_action_{i}_action_{a}" for a in range(self.n_actions)] * options.obs_last_action
        names += ["own_health"] * task.sees_own_health
        names += ["own_shield"] * (task.sees_own_health and scenario.agent_shields)
        names += ["own_pos_x", "own_pos_y"] * task.sees_own_place + ["own_fov_x", "own_fov_y"] * options.conic_fov
        return names + types("own_unit_type") + ["timestep"] * options.obs_timestep_number

    def get_state_feature_names(self) -> list[str]:
        """Returns SMACv2's names of the S numbers in the state.

        Raises:
            NotImplementedError: the state consists of observations, which have no names in SMACv2.
        """
        options, scenario, bits = self.options, self.program.world.scenario, range(self.get_cap_size())
        if options.obs_instead_of_state:
            raise NotImplementedError("SMACv2 names no numbers of a state that consists of observations")
        names = []
        for i in range(self.n_agents):
            names += [f"ally_{what}_{i}" for what in ("health", "cooldown", "relative_x", "relative_y")]
            names += [f"ally_shield_{i}"] * scenario.agent_shields
            names += [f"ally_fov_{axis}_{i}" for axis in "xy"] * options.conic_fov
            names += [f"ally_unit_type_{i}_bit_{bit}" for bit in bits]
        for j in range(self.n_enemies):
            names += [f"enemy_{what}_{j}" for what in ("health", "relative_x", "relative_y")]
            names += [f"enemy_shield_{j}"] * scenario.enemy_shields
            names += [f"enemy_unit_type_{j}_bit_{bit}" for bit in bits]
        if options.state_last_action:
            names += [f"ally_last_action_{i}_action_{a}" for i in range(self.n_agents) for a in range(self.n_actions)]
        return names + ["timestep"] * options.state_timestep_number

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
