"""Small environments that follow PettingZoo's and Gymnasium's conventions, for worker processes to import."""

import os
import pathlib
import time

import gymnasium
import numpy as np
from gymnasium import spaces

NAN = float("nan")


class Errands:
    """Two scouts and a carrier, with spaces of their own; a scout may leave early.

    Every reward is the action, as the environment counts it. So is what an agent observes next.
    """

    possible_agents = ("scout_0", "scout_1", "carrier_0")

    def __init__(self, max_cycles=4, leaves_at=2, ends_at=0, masks="info", fault=None, fault_at=2, once=None):
        self.max_cycles, self.leaves_at, self.ends_at, self.masks = max_cycles, leaves_at, ends_at, masks
        self.fault, self.fault_at, self.once = fault, fault_at, once
        box, mask = spaces.Box(-1.0, 9.0, [2]), spaces.MultiBinary(2)
        scout = spaces.Dict({"observation": box, "action_mask": mask}) if masks == "observation" else box
        self.observation_spaces = {"scout_0": scout, "scout_1": scout, "carrier_0": spaces.Discrete(5)}
        self.action_spaces = {"scout_0": spaces.Discrete(2), "scout_1": spaces.Discrete(2)}
        self.action_spaces["carrier_0"] = spaces.Discrete(4, start=1)

    def observation_space(self, agent):
        return self.observation_spaces[agent]

    def action_space(self, agent):
        return self.action_spaces[agent]

    def reset(self, seed=None, options=None):
        self.agents, self.steps = list(self.possible_agents), 0
        return self._observations(dict.fromkeys(self.agents, 0)), self._infos()

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.steps += 1
        ends, late = self.steps == self.ends_at, self.steps == self.max_cycles
        terminations = {agent: ends or (agent == "scout_1" and self.steps == self.leaves_at) for agent in actions}
        truncations = dict.fromkeys(actions, late)
        told = [self._observations(actions), dict(actions), terminations, truncations, self._infos()]
        self.agents = [agent for agent in actions if not terminations[agent] and not late]
        if self.fault and self.steps == self.fault_at and self._is_due():
            self._show_fault(*told)
        return tuple(told)

    def state(self):
        return np.array([NAN if self.fault == "state" and self.steps == self.fault_at else self.steps])

    def _observations(self, actions):
        told = {}
        for agent, action in actions.items():
            seen = int(action) if agent == "carrier_0" else np.array([self.steps, action], np.float32)
            has_mask = self.masks == "observation" and agent != "carrier_0"
            told[agent] = {"observation": seen, "action_mask": np.array([1, 0], np.int8)} if has_mask else seen
        return told

    def _infos(self):
        told = {agent: {"delivered": self.steps == 4} for agent in self.agents}
        if self.masks == "info" and "carrier_0" in told:
            told["carrier_0"]["action_mask"] = np.array([1, 0, 1, 0], np.int8)
        return told

    def _is_due(self):
        if self.once is None:
            return True
        try:
            pathlib.Path(self.once).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _show_fault(self, observations, rewards, terminations, truncations, infos):
        if self.fault == "exit":
            os._exit(3)
        elif self.fault == "hang":
            time.sleep(3600)
        elif self.fault == "raise":
            raise RuntimeError("the carrier fell")
        elif self.fault == "nan":
            observations["scout_0"] = np.array([NAN, 0.0], np.float32)
        elif self.fault == "inf":
            rewards["carrier_0"] = float("inf")
        elif self.fault == "shape":
            observations["scout_0"] = np.zeros([2, 1], np.float32)
        elif self.fault == "outside":
            observations["carrier_0"] = 5
        elif self.fault == "few":
            del observations["scout_0"]
        elif self.fault == "unpaid":
            del rewards["scout_0"]
        elif self.fault == "unknown":
            observations["scout_7"] = np.zeros([2], np.float32)
        elif self.fault == "left":
            self.agents.remove("scout_0")
        elif self.fault == "mask":
            infos["carrier_0"]["action_mask"] = np.zeros([4], np.int8)


def no_limit():
    """Makes an environment that tells no time limit."""
    env = Errands()
    del env.max_cycles
    return env


class Continuous(Errands):
    """Moves continuously."""

    def __init__(self):
        super().__init__()
        self.action_spaces["scout_0"] = spaces.Box(-1.0, 1.0, [1])


class InTurn:
    """Lets its agents act one after another."""

    def agent_iter(self):
        return iter(())


class Pair(gymnasium.Env):
    """Two players whom Gymnasium knows as tuples; each is rewarded by its own action."""

    max_steps = 3
    action_space = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)])
    observation_space = spaces.Tuple([spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([2, 3])])

    def __init__(self, observations=2):
        self._observations = observations

    def reset(self, seed=None, options=None):
        self.steps = 0
        return self._seen(), {}

    def step(self, actions):
        self.steps += 1
        mask = np.array([[1, 0], [1, 1]]) if self.steps == 2 else np.ones([2, 2])
        return self._seen(), list(actions), self.steps == self.max_steps, False, {"action_mask": mask}

    def _seen(self):
        return (np.array([self.steps % 2, 2]),) * self._observations


gymnasium.register("Pair-v0", entry_point="adapted_games:Pair")
