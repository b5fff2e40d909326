"""A player is what a worker process runs for the environments of others. `processes/worker.py` loads this file.

Run as a script, `python worker.py SETTINGS` makes one environment and prints what it is like, as JSON.

An environment is seen as a team of N agents in a fixed order. All that it tells is checked here before it is written
to the shared memory, because nobody could tell a wrong number there from a right one. What fails a check raises
`Fault`, and the learner then drops the episodes of this process, starts it again and counts that.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import json
import math
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

# Gymnasium knows these environments once their package is imported.
REGISTERED_BY = {"Foraging": "lbforaging", "rware": "rware"}
LIMITS = ("max_cycles", "max_steps", "max_episode_steps", "_max_episode_steps")  # attributes that tell the time limit


class Fault(Exception):
    """Says what an environment did that a team cannot be trained on."""


class Unknown(Exception):
    """Says why there is no environment of a name."""


def make_env(settings: dict[str, Any]) -> Any:
    """Makes one environment.

    Args:
        settings: `backend`, `name` and `env_kwargs`.
    Returns:
        A PettingZoo `ParallelEnv`, a Gymnasium `Env`, or what behaves like one of them.
    Raises:
        Unknown: the name leads to nothing.
    """
    name, arguments = settings["name"], settings["env_kwargs"]
    try:
        if settings["backend"] == "gymnasium":
            import gymnasium

            module, _, name = name.rpartition(":")
            for package in [module, *(REGISTERED_BY[known] for known in REGISTERED_BY if name.startswith(known))]:
                if package:
                    importlib.import_module(package)
            # Gymnasium's checker refuses a list of rewards.
            factory: Any = functools.partial(gymnasium.make, gymnasium.spec(name), disable_env_checker=True)
        else:
            module, _, attribute = name.partition(":")
            factory = getattr(importlib.import_module(module), attribute or "parallel_env")
    except Exception as error:
        raise Unknown(f"{type(error).__name__}: {error}") from error
    return factory(**arguments)


def flattener(space: Any) -> tuple[int, Callable[[Any], np.ndarray]]:
    """Returns how to write elements of a space as numbers: how many, O, and the function that gives them, [O].

    Discrete values become one-hot vectors; the parts of composite spaces follow each other, without an `action_mask`.

    Args:
        space: a space of Gymnasium's.
    Raises:
        Fault: the space has no fixed number of numbers.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Box):

        def array(value: Any) -> np.ndarray:
            value = np.asarray(value)
            if value.shape != space.shape:
                raise Fault(f"an observation has shape {list(value.shape)} instead of {list(space.shape)}")
            return value.ravel()

        return math.prod(space.shape), array
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):

        def one_hot(value: Any) -> np.ndarray:
            value = np.asarray(value, space.dtype)
            if not space.contains(value[()]):
                raise Fault(f"the observation {value.tolist()} is not in {space}")
            return spaces.flatten(space, value[()])

        return spaces.flatdim(space), one_hot
    if isinstance(space, spaces.Dict | spaces.Tuple):
        keys = list(space.spaces) if isinstance(space, spaces.Dict) else range(len(space.spaces))
        parts = [(key, *flattener(space.spaces[key])) for key in keys if key != "action_mask"]

        def joined(value: Any) -> np.ndarray:
            return np.concatenate([write(value[key]) for key, _, write in parts])

        return sum(size for _, size, _ in parts), joined
    raise Fault(f"observations in {space} have no fixed number of values; wrap the environment so that they have")


class Parallel:
    """Sees a PettingZoo `ParallelEnv` as a team: lists over its `possible_agents`.

    Args:
        env: the environment.
    """

    def __init__(self, env: Any):
        self.env = env
        self.agents = list(env.possible_agents)
        self.observation_spaces = [env.observation_space(agent) for agent in self.agents]
        self.action_spaces = [env.action_space(agent) for agent in self.agents]

    def reset(self, seed: int | None) -> tuple[list, list]:
        """Starts an episode.

        Args:
            seed: of the environment; None goes on with its own chance.
        Returns:
            Observations and infos, [N] each.
        Raises:
            Fault: an agent is missing or unknown.
        """
        observations, infos = _parts(self.env.reset(seed=seed), "reset", 2)
        self._check("an observation", observations, self.agents)
        if missing := set(self.agents) - set(self.env.agents):
            raise Fault(f"an episode begins without {min(missing)}, which is one of possible_agents")
        return [observations[agent] for agent in self.agents], [infos.get(agent, {}) for agent in self.agents]

    def step(self, actions: Sequence[Any]) -> tuple[list, list[float], list[bool], list[bool], list]:
        """Plays a step.

        Args:
            actions: [N], None for agents that have left.
        Returns:
            Observations (None of those who have left), rewards, terminations, truncations and infos, [N] each.
        Raises:
            Fault: an agent is missing or unknown.
        """
        chosen = {agent: action for agent, action in zip(self.agents, actions, strict=True) if action is not None}
        told = _parts(self.env.step(chosen), "step", 5)
        observations, rewards, terminations, truncations, infos = told
        self._check("a reward", rewards, chosen)
        self._check("a termination", terminations, chosen)
        self._check("a truncation", truncations, chosen)
        stay = [agent for agent in chosen if not terminations[agent]]
        self._check("an observation", observations, stay)
        if gone := [agent for agent in stay if not truncations[agent] and agent not in self.env.agents]:
            raise Fault(f"{gone[0]} has left `agents` although it was neither terminated nor truncated")
        return (
            [observations.get(agent) for agent in self.agents],
            [rewards.get(agent, 0.0) for agent in self.agents],
            [bool(terminations.get(agent)) for agent in self.agents],
            [bool(truncations.get(agent)) for agent in self.agents],
            [infos.get(agent, {}) for agent in self.agents],
        )

    def _check(self, what: str, told: dict, expected: Sequence[str] | dict) -> None:
        """Raises Fault: something is told of an agent that is unknown, or not told of one that plays."""
        for agent in told:
            if agent not in self.agents:
                raise Fault(f"{what} came for {agent!r}, which is not one of possible_agents")
        for agent in expected:
            if agent not in told:
                raise Fault(f"{what} is missing for {agent!r}")

    @property
    def has_state(self) -> bool:
        """Returns whether the environment has a state of its own, not only PettingZoo's method that refuses."""
        method = getattr(type(getattr(self.env, "unwrapped", self.env)), "state", None)
        return method is not None and method.__module__ != "pettingzoo.utils.env"


class Gymnasium:
    """Sees a Gymnasium environment as a team: its spaces are tuples over the agents, or those of a single agent.

    Args:
        env: the environment.
    """

    has_state = False  # Gymnasium knows none

    def __init__(self, env: Any):
        from gymnasium import spaces

        self.env = env
        self._alone = not isinstance(env.action_space, spaces.Tuple)
        self.action_spaces = [env.action_space] if self._alone else list(env.action_space.spaces)
        self.observation_spaces = [env.observation_space] if self._alone else list(env.observation_space.spaces)
        self.agents = [f"agent_{i}" for i in range(len(self.action_spaces))]

    def reset(self, seed: int | None) -> tuple[list, list]:
        """Starts an episode, as `Parallel.reset` does."""
        observations, info = _parts(self.env.reset(seed=seed), "reset", 2)
        return self._each(observations), self._infos(info)

    def step(self, actions: Sequence[Any]) -> tuple[list, list[float], list[bool], list[bool], list]:
        """Plays a step, as `Parallel.step` does. A reward that is one number is the team's."""
        chosen = [action or 0 for action in actions]
        observations, reward, terminated, truncated, info = _parts(
            self.env.step(chosen[0] if self._alone else tuple(chosen)), "step", 5
        )
        n = len(self.agents)
        rewards = [float(reward)] + [0.0] * (n - 1) if np.ndim(reward) == 0 else list(reward)
        if len(rewards) != n:
            raise Fault(f"there are {len(rewards)} rewards for {n} agents")
        ends = [np.broadcast_to(np.asarray(end, bool), [n]).tolist() for end in (terminated, truncated)]
        return self._each(observations), rewards, *ends, self._infos(info)

    def _each(self, observations: Any) -> list:
        """Returns a list of one observation for each agent. Raises Fault: there are fewer or more."""
        if self._alone:
            return [observations]
        if len(observations) != len(self.agents):
            raise Fault(f"there are {len(observations)} observations for {len(self.agents)} agents")
        return list(observations)

    def _infos(self, info: dict) -> list:
        """Returns the info for each agent; `action_mask` is one mask for each, if it is there."""
        masks = info.get("action_mask")
        if masks is None or self._alone:
            return [info] * len(self.agents)
        if len(masks) != len(self.agents):
            raise Fault(f"there are {len(masks)} action masks for {len(self.agents)} agents")
        return [info | {"action_mask": mask} for mask in masks]


Team = Parallel | Gymnasium


def make_team(settings: dict[str, Any]) -> Team:
    """Makes one environment and sees it as a team.

    Args:
        settings: as for `make_env`.
    Raises:
        Unknown: the name leads to nothing.
        Fault: it follows neither of the two conventions, or its agents act in a way that is not supported.
    """
    from gymnasium import spaces

    env = make_env(settings)
    if hasattr(env, "agent_iter"):
        raise Fault("its agents act one after another (AEC); name what makes a ParallelEnv of it")
    if hasattr(env, "possible_agents"):
        team: Team = Parallel(env)
    elif hasattr(env, "action_space"):
        team = Gymnasium(env)
    else:
        raise Fault("it has neither possible_agents (PettingZoo's ParallelEnv) nor action_space (Gymnasium's Env)")
    for agent, space in zip(team.agents, team.action_spaces, strict=True):
        if not isinstance(space, spaces.Discrete):
            hint = "; look for an option such as env_kwargs = {'continuous_actions': False}"
            hint = hint if isinstance(space, spaces.Box) else ""
            raise Fault(f"{agent} acts in {space}, and only Discrete actions are supported{hint}")
    return team


def _parts(answer: Any, method: str, number: int) -> tuple:
    """Returns the parts of what a method returned. Raises Fault: it is no tuple of that many parts."""
    if not isinstance(answer, tuple) or len(answer) != number:
        raise Fault(f"{method} returned no tuple of {number} values")
    return answer


@contextlib.contextmanager
def _telling(method: str) -> Iterator[None]:
    """Turns what a method of the environment raises into a Fault that tells the place in the environment's code."""
    try:
        yield
    except Fault:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename}, line {place.lineno}"
        raise Fault(f"{method} raised {type(error).__name__}: {error} ({where})") from None


class Environment:
    """Plays one environment and writes what it shows to its part of the shared memory.

    Args:
        settings: the player's settings; `describe` explains those that it finds out.
        memory: arrays by name, without the axis of environments.
        seed: of the environment.
    """

    def __init__(self, settings: dict[str, Any], memory: dict[str, np.ndarray], seed: int):
        self._team = make_team(settings)
        self._settings = settings
        self._memory = memory
        self._seed: int | None = seed
        self._flatten = [flattener(space) for space in self._team.observation_spaces]
        self._starts = [int(space.start) for space in self._team.action_spaces]
        self._num_actions = [int(space.n) for space in self._team.action_spaces]
        self._steps = 0

    def begin(self) -> None:
        """Starts an episode.

        Raises:
            Fault: the environment raised an exception, or what it told is wrong.
        """
        with _telling("reset"):
            observations, infos = self._team.reset(self._seed)
        self._seed = None  # the next episodes go on with the environment's own chance
        self._steps = 0
        memory = self._memory
        memory["alive"][:] = True
        memory["reward"][...] = 0.0
        memory["over"][...] = memory["timeout"][...] = memory["outcomes"][:] = False
        self._show(observations, infos)

    def step(self) -> None:
        """Plays the actions in the memory. An action that is not available becomes the first one that is.

        Raises:
            Fault: the environment raised an exception, or what it told is wrong.
        """
        memory, settings = self._memory, self._settings
        alive, available = memory["alive"], memory["avail_actions"]
        chosen = [
            start + (int(action) if can[action] else int(can.argmax()))
            for action, can, start in zip(memory["action"], available, self._starts, strict=True)
        ]
        with _telling("step"):
            told = self._team.step([action if lives else None for action, lives in zip(chosen, alive, strict=True)])
        observations, rewards, terminated, truncated, infos = told
        self._steps += 1
        acted = int(alive.sum())
        reward = np.float32(sum(rewards))
        if not np.isfinite(reward):
            raise Fault(f"a reward is {reward}")
        stay, cut = ~np.array(terminated), np.array(truncated)
        late = self._steps >= settings["episode_limit"]
        if late and settings["truncates_at_limit"]:
            stay = np.array([observation is not None for observation in observations])
        over = late or not (alive & stay & ~cut).any()
        # An agent that only ran out of time together with the episode is still there, and its future would have value.
        alive &= stay if over else stay & ~cut
        memory["reward"][...] = reward / acted if settings["team_reward"] == "mean" else reward
        memory["over"][...] = over
        memory["timeout"][...] = over and alive.any()
        memory["outcomes"][:] = [any(info.get(name, False) for info in infos) for name in settings["outcomes"]]
        self._show(observations, infos)

    def _show(self, observations: list, infos: list) -> None:
        """Writes observations, action masks and state.

        Raises:
            Fault: a shape is wrong, a number is not finite, or an agent has nothing that it may do.
        """
        memory = self._memory
        obs, available = memory["obs"], memory["avail_actions"]
        obs[:], available[:] = 0.0, False
        for i, lives in enumerate(memory["alive"]):
            if not lives:
                available[i, 0] = True
                continue
            observation, agent = observations[i], self._team.agents[i]
            size, flatten = self._flatten[i]
            obs[i, :size] = flatten(observation)
            mask = observation.get("action_mask") if isinstance(observation, dict) else None
            mask = infos[i].get("action_mask") if mask is None else mask
            actions = self._num_actions[i]
            if mask is None:
                available[i, :actions] = True
            elif np.shape(mask) != (actions,):
                raise Fault(f"the action mask of {agent} has shape {list(np.shape(mask))} instead of [{actions}]")
            elif not np.any(mask):
                raise Fault(f"the action mask of {agent} allows nothing")
            else:
                available[i, :actions] = mask
        if not np.isfinite(obs).all():
            raise Fault(f"an observation of {self._team.agents[np.argwhere(~np.isfinite(obs))[0, 0]]} is not finite")
        state = memory["state"]
        if not self._settings["has_state"]:
            state[:] = obs.ravel()
            return
        with _telling("state"):
            told = np.asarray(self._team.env.state())
        if told.size != state.size:
            raise Fault(f"the state has {told.size} numbers instead of {state.size}")
        state[:] = told.ravel()
        if not np.isfinite(state).all():
            raise Fault("the state is not finite")


class Player:
    """Plays the environments of one worker.

    Args:
        settings: `backend`, `name` and `env_kwargs`, those of `core.Settings` that it needs, what `describe` found out,
            and `seed` and `numbers`, which give each environment a seed.
        memory: the arrays that both sides see.
    """

    def __init__(self, settings: dict[str, Any], memory: dict[str, np.ndarray]):
        # A new seed with each start, so that an environment does not come to the same fault for ever.
        seeds = [
            int(np.random.SeedSequence([settings["seed"], number, settings["launch"]]).generate_state(1)[0] >> 1)
            for number in settings["numbers"]
        ]
        random.seed(seeds[0])
        np.random.seed(seeds[0])
        self._environments = [
            Environment(settings, {name: array[e, ...] for name, array in memory.items()}, seed)
            for e, seed in enumerate(seeds)
        ]

    def play(self, begin: Sequence[int], go_on: Sequence[int]) -> None:
        """Starts an episode in some environments, and plays a step in others.

        Args:
            begin: the indices of the former.
            go_on: the indices of the latter.
        Raises:
            Fault: an environment raised an exception, or what it told is wrong.
        """
        for e in begin:
            self._environments[e].begin()
        for e in go_on:
            self._environments[e].step()


def describe(settings: dict[str, Any]) -> dict[str, Any]:
    """Makes one environment and returns what it is like.

    Args:
        settings: `backend`, `name` and `env_kwargs`.
    Returns:
        `agents`, their names; `num_actions` A and `obs_size` O, of the agent that has most; `has_state`, whether the
        state is the environment's own instead of all observations; `state_size` S; `episode_limit`, if it tells one;
        and `version`, of the package.
    Raises:
        Unknown: the name leads to nothing.
        Fault: it cannot be played.
    """
    team = make_team(settings)
    obs_size = max(flattener(space)[0] for space in team.observation_spaces)
    env = team.env
    with _telling("reset"):
        team.reset(0)
    with _telling("state"):
        state_size = int(np.size(env.state())) if team.has_state else obs_size * len(team.agents)
    inner = getattr(env, "unwrapped", env)
    told = [getattr(getattr(env, "spec", None), "max_episode_steps", None)]
    told += [getattr(inner, name, None) for name in LIMITS]
    package = type(inner).__module__.partition(".")[0]
    try:
        version = f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        version = package
    return {
        "agents": [str(agent) for agent in team.agents],
        "num_actions": max(int(space.n) for space in team.action_spaces),
        "obs_size": obs_size,
        "state_size": state_size,
        "has_state": team.has_state,
        "episode_limit": next((int(limit) for limit in told if limit), None),
        "version": version,
    }


def main(text: str) -> None:
    """Prints what `describe` returns, or an `error` and whether the environment is `unknown`, as JSON.

    Args:
        text: the settings as JSON.
    """
    settings = json.loads(text)
    sys.path[:] = settings.get("path", sys.path[1:])  # without this script's folder
    try:
        told = describe(settings)
    except Exception as error:
        text = str(error) if isinstance(error, Fault | Unknown) else f"{type(error).__name__}: {error}"
        told = {"error": text, "unknown": isinstance(error, Unknown)}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
