"""A game of one's own by PettingZoo's conventions: two walkers on a line of nine cells have to meet."""

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv


class Meeting(ParallelEnv):
    possible_agents = ("walker_0", "walker_1")
    max_cycles = 12  # env steps

    def observation_space(self, agent):
        return Box(-1.0, 1.0, [2])  # its cell, and the way to the other walker

    def action_space(self, agent):
        return Discrete(3)  # left, stay, right

    def reset(self, seed=None, options=None):
        self.rng = np.random.default_rng(seed) if seed is not None else self.rng
        self.agents, self.steps, self.cells = list(self.possible_agents), 0, self.rng.integers(0, 9, [2])
        return self._told({})

    def step(self, actions):
        self.steps, self.cells = self.steps + 1, np.clip(self.cells + list(actions.values()) - 1, 0, 8)
        met, late = self.cells[0] == self.cells[1], self.steps == self.max_cycles
        observations, infos = self._told({"met": met})
        self.agents = [] if met or late else self.agents
        reward, ended, cut = (dict.fromkeys(observations, value) for value in (met - 1 / 12, met, late and not met))
        return observations, reward, ended, cut, infos

    def _told(self, info):
        obs = np.stack([self.cells, self.cells[::-1] - self.cells], axis=1).astype(np.float32) / 8
        return dict(zip(self.agents, obs, strict=True)), dict.fromkeys(self.agents, info)
