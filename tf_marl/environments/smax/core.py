"""SMAX is a live world here: JaxMARL's battles run in a worker process, by an interpreter that has JAX.

One process plays all battles, because JaxMARL plays them as one program.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from tf_marl.environments.processes.options import ProcessOptions
from tf_marl.environments.processes.world import ProcessWorld
from tf_marl.environments.world import team_specs

WORKER = str(pathlib.Path(__file__).with_name("worker.py"))  # this process may have no JAX to import it with


class Smax(ProcessWorld):
    """Plays SMAX against its scripted enemies.

    Observation, state, action, mask and reward are JaxMARL's. A dead agent has one available action, its stop.

    Outcome:
        `battle_won`: all enemies are dead, and some agent lives.
    Episode end:
        one side is dead (discount 0), or the time limit (discount 1).

    Args:
        name: of the map.
        num_envs: B, how many battles run side by side.
        settings: arguments of JaxMARL's `HeuristicEnemySMAX` as `env_kwargs`, and the options of its process.
        seed: the root of all randomness.
        about: what `worker.describe` tells.
    """

    outcomes = ("battle_won",)

    def __init__(self, name: str, num_envs: int, settings: ProcessOptions, seed: int, about: dict[str, Any]):
        self.name = name
        self.options = settings
        self.unit_types = unit_types = tuple(about["unit_types"])
        self.episode_limit = about["episode_limit"]
        self.time_step_spec, self.action_spec = team_specs(
            len(unit_types), about["num_actions"], about["obs_size"], about["state_size"]
        )

        def of_player(numbers: Sequence[int]) -> dict[str, Any]:
            return {"name": name, "env_kwargs": settings.env_kwargs, "seed": seed + numbers[0]}

        super().__init__(num_envs, 1, settings.program(WORKER, f"SMAX {name}"), of_player, settings.patience)

    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self.options)


def names() -> tuple[str, ...]:
    """Returns the names of SMAX's maps."""
    smacs = ("3m", "2s3z", "25m", "3s5z", "8m", "5m_vs_6m", "10m_vs_11m", "27m_vs_30m", "3s5z_vs_3s6z", "3s_vs_5z")
    return (*smacs, "6h_vs_8z", "smacv2_5_units", "smacv2_10_units", "smacv2_20_units")


def make(map_name: str, num_envs: int, seed: int, **options: Any) -> Smax:
    """Makes the world for one of SMAX's maps; `environments.make` calls this.

    Args:
        map_name: one of `names()`.
        num_envs: B, how many battles run side by side.
        seed: the root of all randomness.
        **options: those of `ProcessOptions`; its `env_kwargs` are arguments of JaxMARL's `HeuristicEnemySMAX`.
    Returns:
        The world.
    Raises:
        ValueError: there is no such map, an option is unknown or has a wrong value, or the interpreter has no jaxmarl.
    """
    if map_name not in names():
        raise ValueError(f"unknown map {map_name!r}; smax has: {', '.join(names())}")
    settings = ProcessOptions(**options)
    about = settings.ask(WORKER, {"name": map_name, "env_kwargs": settings.env_kwargs})
    if error := about.get("error"):
        raise ValueError(f"smax:{map_name}: {error}; environment.python names an interpreter that has jaxmarl")
    return Smax(map_name, num_envs, settings, seed, about)
