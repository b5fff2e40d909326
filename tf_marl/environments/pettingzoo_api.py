"""This module puts the embedded battle behind PettingZoo's parallel API. It needs the extra `worlds`.

from tf_marl.environments import pettingzoo_api

env = pettingzoo_api.parallel_env("3m")
observations, infos = env.reset(seed=0)
while env.agents:
    actions = {a: env.action_space(a).sample(observations[a]["action_mask"]) for a in env.agents}
    observations, rewards, terminations, truncations, infos = env.step(actions)
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from tf_marl.environments.smac_api import CombatEnv


class ParallelCombat(ParallelEnv):
    """Plays one battle by SMAC's rules, as PettingZoo's parallel API has it.

    Agents are named after their units, as in "marine_0". An agent that dies is terminated.

    Observation:
        a dict for each living agent: `observation`, float32 [O], is SMAC's, and `action_mask`, int8 [A], has a 1 for
        each action that the agent may take.
    State:
        `state()` is SMAC's, float32 [S].
    Action:
        one for each living agent, counted as in `CombatEnv`.
    Reward:
        the team's, for each agent that acted.
    Episode end:
        all agents are terminated when one side is dead; the living are truncated at the map's time limit.
    Infos:
        `battle_won` for each agent that acted.

    Args:
        map_name: one of `environments.map_names()`.
        **options: those of `CombatEnv`, but for `continuing_episode`.
    Raises:
        TypeError: there is no such option.
        ValueError: the map is unknown, or an option has a wrong value.
    """

    def __init__(self, map_name: str = "3m", **options: Any):
        self.metadata = {"name": map_name, "render_modes": []}
        self.env = CombatEnv(map_name, **options | {"continuing_episode": True})  # tells a timeout from a defeat
        self.max_cycles = self.env.episode_limit  # env steps
        sizes = self.env.get_env_info()
        types = self.env.program.world.unit_types or ["agent"] * sizes["n_agents"]  # where types change, no name tells
        self.possible_agents = [f"{unit_type}_{i}" for i, unit_type in enumerate(types)]
        self.agents: list[str] = []
        observation = spaces.Dict(
            {
                "observation": spaces.Box(-np.inf, np.inf, [sizes["obs_shape"]], np.float32),
                "action_mask": spaces.Box(0, 1, [sizes["n_actions"]], np.int8),
            }
        )
        self.state_space = spaces.Box(-np.inf, np.inf, [sizes["state_shape"]], np.float32)
        self.observation_spaces = dict.fromkeys(self.possible_agents, observation)
        self.action_spaces = {agent: spaces.Discrete(sizes["n_actions"]) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> spaces.Dict:
        """Returns the space of what an agent observes."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """Returns the space of an agent's actions; the mask says which of them it may take."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Starts the next episode.

        Args:
            seed: the root of the randomness from now on; None goes on as before.
            options: PettingZoo's argument; it changes nothing.
        Returns:
            Observations and infos by agent.
        """
        if seed is not None:
            self.env._seed = seed
            self.env.full_restart()
        self.env.reset()
        self.agents = list(self.possible_agents)
        return self._observations(self.agents), {agent: {"battle_won": False} for agent in self.agents}

    def step(self, actions: Mapping[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """Plays one env step.

        Args:
            actions: one for each living agent, by name.
        Returns:
            Observations, rewards, terminations, truncations and infos, by agent, of all that acted.
        Raises:
            AssertionError: an action is not available; nothing is played then.
            RuntimeError: no episode is under way.
        """
        acted = self.agents
        reward, over, info = self.env.step([actions.get(agent, 0) for agent in self.possible_agents])
        late = info.get("episode_limit", False)
        alive = {
            agent: unit.health > 0 for agent, unit in zip(self.possible_agents, self.env.agents.values(), strict=True)
        }
        terminations = {agent: not alive[agent] or (over and not late) for agent in acted}
        truncations = {agent: alive[agent] and late for agent in acted}
        self.agents = [agent for agent in acted if alive[agent] and not over]
        rewards = dict.fromkeys(acted, reward)
        infos = {agent: {"battle_won": info["battle_won"]} for agent in acted}
        return self._observations(acted), rewards, terminations, truncations, infos

    def state(self) -> np.ndarray:
        """Returns SMAC's global state, float32 [S]."""
        return self.env.get_state()

    def _observations(self, agents: list[str]) -> dict[str, dict[str, np.ndarray]]:
        index = {agent: i for i, agent in enumerate(self.possible_agents)}
        masks = self.env.get_avail_actions()
        return {
            agent: {
                "observation": self.env.get_obs_agent(index[agent]),
                "action_mask": np.array(masks[index[agent]], np.int8),
            }
            for agent in agents
        }

    def close(self) -> None:
        """Ends the episode."""
        self.env.close()


parallel_env = ParallelCombat  # the name that PettingZoo's own modules give to it
