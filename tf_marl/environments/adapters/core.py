"""An environment of others is a live world here: copies of it run in worker processes, several to a process.

A quick environment plays a step in less time than a process takes to answer. So each process plays as many of them as
there are for each core. If it fails, the episodes of all its environments are dropped.
"""

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic

from tf_marl.config import STRICT, Count
from tf_marl.environments.adapters import worker
from tf_marl.environments.processes.options import ProcessOptions
from tf_marl.environments.processes.world import ProcessWorld
from tf_marl.environments.world import team_specs

Names = Annotated[list[str], pydantic.BeforeValidator(lambda told: list(told) if isinstance(told, tuple) else told)]


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Settings(ProcessOptions):
    """Holds what a user may set, besides the options of processes.

    Args:
        team_reward: how the rewards of the agents that acted become the team's. Where each of them is paid the team's
            reward, that is their mean.
        episode_limit: env steps after which an episode is cut off; None is the limit that the environment tells.
        truncates_at_limit: whether an episode that ends at the limit was cut off by the time although the environment
            says that it terminated, as level-based foraging and RWARE do.
        outcomes: names of booleans in the infos, such as "is_success". They tell how an episode ended; the first one
            ranks policies. An episode has an outcome if the last info of any agent says so.
        envs_per_process: how many environments one process plays; None spreads them over all cores.
    """

    team_reward: Literal["sum", "mean"] = "sum"
    episode_limit: Count | None = None
    truncates_at_limit: bool = False
    outcomes: Names = dataclasses.field(default_factory=list)
    envs_per_process: Count | None = None


class Adapted(ProcessWorld):
    """Plays an environment that follows PettingZoo's parallel API or Gymnasium's, with a team of N agents.

    Observation:
        `obs` float32 [N, O] holds what each agent observes as numbers: discrete values as one-hot vectors, composite
        spaces one part after the other, and zeros after the end of shorter ones. `state` float32 [S] is the
        environment's own state if it has one, else all observations. `avail_actions` bool [N, A] comes from an
        `action_mask` in the observation or in the info; without one, an agent has all its actions, which may be fewer
        than A. `alive` bool [N] is False for agents that have left the episode; their observations are zeros, and only
        action 0 is available.
    Action:
        int32 [N], each counted from 0. One that is not available becomes the first one that is.
    Reward:
        the sum or the mean of the rewards of the agents that acted.
    Episode end:
        all agents have left, or the time limit. The discount stays 1 if an agent was truncated then and not terminated.

    Args:
        name: of the environment.
        backend: "pettingzoo" or "gymnasium".
        num_envs: B, how many environments run side by side.
        settings: those of the environment and of its processes.
        seed: the root of the environments' seeds.
        about: what `worker.describe` tells.
    """

    def __init__(self, name: str, backend: str, num_envs: int, settings: Settings, seed: int, about: dict[str, Any]):
        self.name = name
        self.options = settings
        self.outcomes = tuple(settings.outcomes)
        self.unit_types = unit_types = _unit_types(about["agents"])
        self.episode_limit = settings.episode_limit or about["episode_limit"]
        self._version = about["version"]
        self.time_step_spec, self.action_spec = team_specs(
            len(unit_types), about["num_actions"], about["obs_size"], about["state_size"]
        )

        def of_player(numbers: Sequence[int]) -> dict[str, Any]:
            return {
                **_environment(backend, name, settings),
                "has_state": about["has_state"],
                "team_reward": settings.team_reward,
                "episode_limit": self.episode_limit,
                "truncates_at_limit": settings.truncates_at_limit,
                "outcomes": settings.outcomes,
                "seed": seed,
                "numbers": list(numbers),
            }

        per_process = settings.envs_per_process or -(-num_envs // len(os.sched_getaffinity(0)))
        program = settings.program(worker.__file__, name)
        super().__init__(num_envs, -(-num_envs // per_process), program, of_player, settings.patience)

    def tags(self) -> dict[str, str]:
        """Returns the package that the environment is of, with its version."""
        return {"environment_version": self._version}

    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self.options)


def make(backend: str, known: Sequence[str], name: str, num_envs: int, seed: int, options: dict[str, Any]) -> Adapted:
    """Makes the world of one environment. It makes the environment once, in a process of its own, to see what it is.

    Args:
        backend: "pettingzoo" or "gymnasium".
        known: names to suggest where there is no environment of that name.
        name: of the environment.
        num_envs: B, how many environments run side by side.
        seed: the root of the environments' seeds.
        options: those of `Settings`.
    Returns:
        The world.
    Raises:
        ValueError: there is no such environment, it cannot be played, or an option is unknown or has a wrong value.
    """
    settings = Settings(**options)
    about = settings.ask(worker.__file__, _environment(backend, name, settings))
    if about.get("unknown"):
        there = f"{backend} has, among others: {', '.join(known)}; pip install 'tf_marl[worlds]' installs these"
        raise ValueError(f"unknown map {name!r} ({about['error']}); {there}")
    if error := about.get("error"):
        raise ValueError(f"{name}: {error}")
    if not (settings.episode_limit or about["episode_limit"]):
        raise ValueError(f"{name} tells no time limit; set environment.episode_limit, in env steps")
    return Adapted(name, backend, num_envs, settings, seed, about)


def _environment(backend: str, name: str, settings: Settings) -> dict[str, Any]:
    """Returns which environment a worker makes."""
    return {"backend": backend, "name": name, "env_kwargs": settings.env_kwargs}


def imported(backend: str, name: str) -> str | None:
    """Returns the module that making an environment imports; None where it is one of the packages known here.

    Args:
        backend: of the environment.
        name: of the environment, as its backend takes it.
    """
    if backend == "gymnasium":
        return name.rpartition(":")[0] or None
    if backend != "pettingzoo" or (name.startswith("mpe2.") and ":" not in name):
        return None
    return name.partition(":")[0]


def _unit_types(agents: Sequence[str]) -> tuple[str, ...]:
    """Returns the agents' types: their names without a number at the end, or "agent" if one of them has no number."""
    numbered = [re.fullmatch(r"(.*?)_?\d+", agent) for agent in agents]
    return tuple(match[1] or "agent" if match and all(numbered) else "agent" for match in numbered)


def spelled(factory: Any) -> str:
    """Returns the name by which a worker imports a class or function: `MODULE:NAME`.

    Args:
        factory: a class or a function that makes an environment.
    Raises:
        ValueError: no other process could import it.
    """
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", None)
    if module is None or name is None:
        raise ValueError(f"environment.map_name: should be a name, a class or a function, not {factory!r}")
    if module == "__main__" or "." in name:
        raise ValueError(
            f"environment.map_name: other processes cannot import {name} from {module}; put it at the top level of a"
            " module of its own"
        )
    return f"{module}:{name}"
