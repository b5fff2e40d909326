"""Environments: the whole contract on one screen.

    load("3m", num_envs=128) -> a TF-Agents `TFEnvironment` whose team acts as one agent
    make("3m", num_envs=128) -> the `World` inside it, which training takes

Specs of one environment, N agents, A actions:

    observation  {"obs": f32 [N, O], "state": f32 [S], "avail_actions": bool [N, A], "alive": bool [N]}
    action       int32 [N]
    reward       f32, the team's
    discount     0 where the task ended (win, defeat, draw), 1 elsewhere, at the time limit too

As everywhere in TF-Agents, the step after an episode's last one ignores the action and returns the next episode's
first time step; the last time step carries its own true observation, for a learner to bootstrap from.

Backends are families of worlds (`world.py`): `combat`, SMAC's maps in the embedded battle; `sc2`, the same maps in
StarCraft II itself, whose episodes may break off; `matrix_game`, tables of payoffs. `register` adds one.
"""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import gin
import pydantic

from tf_marl.config import Count, checked

if TYPE_CHECKING:  # no world's module is imported, nor TensorFlow, before it is asked for
    from tf_agents.environments import tf_environment

    from tf_marl.environments.world import World
else:
    World = object  # `checked` evaluates annotations

__all__ = ["backends", "load", "make", "map_names", "names", "register"]

# Backend -> (map_name, num_envs, seed, **options) -> its world; or the module that has this as `make`, and, as `names`,
# what maps there are.
_BACKENDS: dict[str, "str | Callable[..., World]"] = {
    "combat": "tf_marl.environments.combat.environment",
    "sc2": "tf_marl.environments.sc2.core",
    "matrix_game": "tf_marl.environments.matrix_game",
}
_NAMES: dict[str, Callable[[], tuple[str, ...]]] = {}


def register(backend: str, factory: "Callable[..., World]", names: Callable[[], tuple[str, ...]] = lambda: ()) -> None:
    """Makes a backend known, to `make` and `load` and so to all commands.

    Args:
        backend: its name.
        factory: (map_name, num_envs, seed, **options) -> a world; raises ValueError for a name or an option that it
            does not know.
        names: of the maps that there are.
    Raises:
        ValueError: another one has that name.
    """
    if _BACKENDS.get(backend, factory) is not factory:
        raise ValueError(f"backend {backend!r} is there already; choose another name")
    _BACKENDS[backend] = factory
    _NAMES[backend] = names


def backends() -> tuple[str, ...]:
    """The backends that can be loaded."""
    return tuple(_BACKENDS)


def names(backend: str = "combat") -> tuple[str, ...]:
    """The maps of a backend. Raises ValueError: there is no such backend; names it."""
    _factory(backend)
    return _NAMES[backend]()


def map_names() -> tuple[str, ...]:
    """SMAC's maps."""
    return names("combat")


def _factory(backend: str) -> "Callable[..., World]":
    if backend not in _BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; choose one of: {', '.join(_BACKENDS)}")
    factory = _BACKENDS[backend]
    if isinstance(factory, str):
        module = importlib.import_module(factory)
        _BACKENDS[backend], _NAMES[backend] = module.make, module.names
        return module.make
    return factory


@gin.configurable("environment", denylist=["seed"])
@checked("environment")
def make(
    map_name: str, num_envs: Count = 1, backend: str = "combat", seed: pydantic.NonNegativeInt = 0, **options
) -> World:
    """A world: a batch of environments, as training takes it.

    Args:
        map_name: one of `names(backend)`.
        num_envs: B, environments side by side.
        backend: one of `backends()`.
        seed: root of the chance in live worlds; compiled ones are given seeds with each call.
        **options: the backend's. SMAC's are `combat.options.Options`, by SMAC's names; with `sc2`, `sc2.core.Settings`.
    Raises:
        ValueError: unknown map, backend or option, or a value of the wrong type or size; names it.
    """
    return _factory(backend)(map_name, num_envs, seed, **options)


def load(
    map_name: str, num_envs: int = 1, backend: str = "combat", seed: int = 0, **options
) -> "tf_environment.TFEnvironment":
    """A TF-Agents environment, whose `batch_size` is `num_envs`, around a world, its attribute `world`.

    Args, Raises: as `make`; seed is the root of all the chance in it.
    """
    from tf_marl.environments.tf_environments import around

    return around(make(map_name, num_envs=num_envs, backend=backend, seed=seed, **options), seed)
