"""The backend `pettingzoo` plays environments that follow PettingZoo's parallel API, by name or by class."""

from typing import Any

from tf_marl.environments.adapters import core


def names() -> tuple[str, ...]:
    """Returns the names of some cooperative environments; any other one that can be imported will do, too."""
    return ("mpe2.simple_spread_v3", "mpe2.simple_speaker_listener_v4", "mpe2.simple_reference_v3")


def make(map_name: str, num_envs: int, seed: int, **options: Any) -> core.Adapted:
    """Makes the world of a ParallelEnv; `environments.make` calls this.

    Args:
        map_name: a module that has a function `parallel_env`, such as "mpe2.simple_spread_v3"; or `MODULE:NAME` for a
            class or another function.
        num_envs: B, how many environments run side by side.
        seed: the root of the environments' seeds.
        **options: those of `core.Settings`.
    Returns:
        The world.
    Raises:
        ValueError: there is no such environment, it cannot be played, or an option is unknown or has a wrong value.
    """
    return core.make("pettingzoo", names(), map_name, num_envs, seed, options)
