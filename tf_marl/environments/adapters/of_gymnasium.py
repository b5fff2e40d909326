"""The backend `gymnasium` plays environments that are registered with Gymnasium and have a tuple of agents."""

from typing import Any

from tf_marl.environments.adapters import core


def names() -> tuple[str, ...]:
    """Returns the names of the tasks that papers report; any other one that is registered will do, too.

    They are level-based foraging and the multi-robot warehouse (Papoudakis et al. 2021, arXiv:2006.07869).
    """
    return (
        "Foraging-8x8-2p-2f-coop-v3",
        "Foraging-2s-8x8-2p-2f-coop-v3",
        "Foraging-10x10-3p-3f-v3",
        "Foraging-2s-10x10-3p-3f-v3",
        "Foraging-15x15-3p-5f-v3",
        "Foraging-15x15-4p-3f-v3",
        "Foraging-15x15-4p-5f-v3",
        "rware-tiny-2ag-v2",
        "rware-tiny-4ag-v2",
        "rware-small-4ag-v2",
    )


def make(map_name: str, num_envs: int, seed: int, **options: Any) -> core.Adapted:
    """Makes the world of a registered environment; `environments.make` calls this.

    Args:
        map_name: the environment's id; `MODULE:ID` first imports a module that registers it. What lbforaging and rware
            register needs no module.
        num_envs: B, how many environments run side by side.
        seed: the root of the environments' seeds.
        **options: those of `core.Settings`.
    Returns:
        The world.
    Raises:
        ValueError: there is no such environment, it cannot be played, or an option is unknown or has a wrong value.
    """
    return core.make("gymnasium", names(), map_name, num_envs, seed, options)
