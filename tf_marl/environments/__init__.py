"""Environments: the whole contract on one screen.

    load("3m", num_envs=128) -> a TF-Agents `TFEnvironment` whose team acts as one agent

Specs of one environment, N agents, A actions:

    observation  {"obs": f32 [N, O], "state": f32 [S], "avail_actions": bool [N, A], "alive": bool [N]}
    action       int32 [N]
    reward       f32, the team's
    discount     0 where the task ended (win, defeat, draw), 1 elsewhere, at the time limit too

As everywhere in TF-Agents, the step after an episode's last one ignores the action and returns the next episode's
first time step; the last time step carries its own true observation, for a learner to bootstrap from.

Backend `combat` is the embedded battle, `sc2` StarCraft II itself, whose episodes may break off: see `sc2.py`.
"""

from typing import Any

import gin
import pydantic
from tf_agents.environments import tf_environment

from tf_marl.config import Count, checked
from tf_marl.environments import sc2
from tf_marl.environments.combat import scenarios
from tf_marl.environments.combat.environment import Combat
from tf_marl.environments.combat.options import Options
from tf_marl.environments.functional import FunctionalEnvironment

__all__ = ["load", "map_names"]

BACKENDS = ("combat", "sc2")


def map_names() -> tuple[str, ...]:
    """The SMAC maps that can be loaded."""
    return scenarios.map_names()


@gin.configurable("environment", denylist=["seed"])
@checked("environment")
def load(
    map_name: str, num_envs: Count = 1, backend: str = "combat", seed: pydantic.NonNegativeInt = 0, **options: Any
) -> tf_environment.TFEnvironment:
    """A batch of battles on one SMAC map.

    Args:
        map_name: one of `map_names()`.
        num_envs: B, battles side by side; the environment's `batch_size`.
        backend: `combat`, the embedded battle, or `sc2`, the game: `num_envs` of them, of about a gigabyte each.
        seed: root of all the chance in the environment.
        **options: SMAC's options by SMAC's names, and `profile` and `enemy`: see `combat.options.Options`; for `sc2`,
            `sc2.Settings`.
    Raises:
        ValueError: unknown map, backend or option, or a value of the wrong type or size; names it.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; choose one of: {', '.join(BACKENDS)}")
    if backend == "sc2":
        return sc2.load(map_name, num_envs, seed, **options)
    chosen = Options(**options)
    return FunctionalEnvironment(Combat(scenarios.scenario(map_name, chosen.profile), num_envs, chosen), seed)
