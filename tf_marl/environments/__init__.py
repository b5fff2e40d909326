"""An environment is what a team of agents plays in, and this package makes one from the name of a map.

There are two ways to get the environment of a map:

- `load("3m", num_envs=128)` returns a TF-Agents `TFEnvironment`, in which the team acts as one agent. It works with
  TF-Agents' drivers, replay buffers and agents.
- `make("3m", num_envs=128)` returns the `World` inside that environment. This project's own training takes it.

B environments run side by side: `num_envs` is B. A map has N agents with A actions each. An agent observes O numbers,
and the global state has S. One environment has these specs:

============================  ==============  ==========================================================================
spec                          type and shape  meaning
============================  ==============  ==========================================================================
observation["obs"]            float32 [N, O]  what each agent sees; its actor decides by it
observation["state"]          float32 [S]     what a centralised critic may see
observation["avail_actions"]  bool [N, A]     True for each action that an agent may take now
observation["alive"]          bool [N]        True for each agent that is still alive
action                        int32 [N]       one action for each agent, at least 0 and less than A
reward                        float32 scalar  the reward of the whole team
discount                      float32 scalar  0 where the task ended (a win, a defeat or a draw); 1 everywhere else,
                                              also at the time limit
============================  ==============  ==========================================================================

Episodes follow TF-Agents' convention. After the last step of an episode, the next step ignores the action and returns
the first time step of a new episode. The last time step of an episode carries its own true observation. So a learner
can bootstrap from that observation where only the time was up.

A backend is a family of worlds:

- `combat`: the 23 maps of SMAC (the StarCraft Multi-Agent Challenge) and the 15 scenarios of SMACv2 in an embedded
  battle, without StarCraft II.
- `sc2`: SMAC's maps in StarCraft II itself. An episode can break off there, for example when the game crashes.
- `matrix_game`: small games whose payoffs are a table.
- `pettingzoo` and `gymnasium`: environments of others or your own, by name or by class. They run in worker processes.
- `smax`: JaxMARL's SMAX, in a worker process of an interpreter that has JAX.

The name of a map may begin with its backend: `load("pettingzoo:mpe2.simple_spread_v3", num_envs=32)`.

`register` adds a backend. The protocol that every world follows is in `world.py`.
"""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gin
import pydantic

from tf_marl.config import Count, checked

if TYPE_CHECKING:  # no world's module is imported, nor TensorFlow, before it is asked for
    from tf_agents.environments import tf_environment

    from tf_marl.environments.world import World
else:
    World = object  # `checked` evaluates annotations

__all__ = ["backends", "load", "make", "map_names", "names", "register", "resolve"]

Map = str | Callable[..., Any]  # the name of a map, or what makes the environment

# By backend: a function (map_name, num_envs, seed, **options) that returns a world, or the name of a module that has
# this function as `make` and a function `names` that lists the maps. The module is imported at its first use.
_BACKENDS: dict[str, "str | Callable[..., World]"] = {
    "combat": "tf_marl.environments.combat.environment",
    "sc2": "tf_marl.environments.sc2.core",
    "matrix_game": "tf_marl.environments.matrix_game",
    "pettingzoo": "tf_marl.environments.adapters.of_pettingzoo",
    "gymnasium": "tf_marl.environments.adapters.of_gymnasium",
    "smax": "tf_marl.environments.smax.core",
}
_NAMES: dict[str, Callable[[], tuple[str, ...]]] = {}


def register(backend: str, factory: "Callable[..., World]", names: Callable[[], tuple[str, ...]] = lambda: ()) -> None:
    """Makes a backend known to `make` and `load`, and through them to all commands.

    Args:
        backend: its name.
        factory: a function with the arguments `(map_name, num_envs, seed, **options)` that returns a world. It raises
            ValueError for a map or an option that it does not know.
        names: a function that returns the names of the backend's maps; without one, the backend lists no maps.
    Raises:
        ValueError: another backend has that name already.
    """
    if _BACKENDS.get(backend, factory) is not factory:
        raise ValueError(f"backend {backend!r} is there already; choose another name")
    _BACKENDS[backend] = factory
    _NAMES[backend] = names


def backends() -> tuple[str, ...]:
    """Returns the names of all backends that `load` and `make` accept."""
    return tuple(_BACKENDS)


def names(backend: str = "combat") -> tuple[str, ...]:
    """Returns the names of the maps that a backend has.

    Args:
        backend: one of `backends()`.
    Returns:
        The names, in the backend's own order.
    Raises:
        ValueError: there is no such backend; the message names it and lists the known ones.
    """
    _factory(backend)
    return _NAMES[backend]()


def map_names() -> tuple[str, ...]:
    """Returns the names of SMAC's 23 maps, in SMAC's order."""
    from tf_marl.environments.combat import scenarios

    return scenarios.map_names()


def _factory(backend: str) -> "Callable[..., World]":
    if backend not in _BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; choose one of: {', '.join(_BACKENDS)}")
    factory = _BACKENDS[backend]
    if isinstance(factory, str):
        module = importlib.import_module(factory)
        _BACKENDS[backend], _NAMES[backend] = module.make, module.names
        return module.make
    return factory


def resolve(map_name: Map, backend: str = "combat") -> tuple[str, str]:
    """Returns the backend and the map's name in it, as `make` understands its arguments of these names.

    Args:
        map_name: as for `make`.
        backend: as for `make`.
    Raises:
        ValueError: `map_name` is a class or function that a worker process could not import.
    """
    if not isinstance(map_name, str):
        from tf_marl.environments.adapters import core

        return "pettingzoo", core.spelled(map_name)
    prefix, colon, name = map_name.partition(":")
    return (prefix, name) if colon and prefix in _BACKENDS else (backend, map_name)


@gin.configurable("environment", denylist=["seed"])
@checked("environment")
def make(
    map_name: Map, num_envs: Count = 1, backend: str = "combat", seed: pydantic.NonNegativeInt = 0, **options
) -> World:
    """Makes a world: B environments side by side, in the form that this project's training takes.

    Args:
        map_name: one of `names(backend)`, or `BACKEND:NAME`; or a class or function of a module that makes a
            PettingZoo ParallelEnv.
        num_envs: B, how many environments run side by side.
        backend: one of `backends()`; ignored if `map_name` tells another.
        seed: the root of the randomness in a world that runs outside of TensorFlow, such as the game itself. A compiled
            world ignores it, because each of its calls takes a seed.
        **options: the options of the backend. `combat` takes those of `combat.options.Options`, under SMAC's names;
            `sc2` takes those of `sc2.core.Settings`; `matrix_game` takes those of `matrix_game.Options`; `pettingzoo`
            and `gymnasium` take those of `adapters.core.Settings`; `smax` takes those of
            `processes.options.ProcessOptions`.
    Returns:
        The world.
    Raises:
        ValueError: the map, the backend or an option is unknown, or a value has the wrong type or size; the message
            names it.
    """
    backend, name = resolve(map_name, backend)
    return _factory(backend)(name, num_envs, seed, **options)


def load(
    map_name: Map, num_envs: int = 1, backend: str = "combat", seed: int = 0, **options
) -> "tf_environment.TFEnvironment":
    """Makes a TF-Agents environment around a world.

    Args:
        map_name: one of `names(backend)`, or `BACKEND:NAME`; or a class or function of a module that makes a
            PettingZoo ParallelEnv.
        num_envs: B, how many environments run side by side.
        backend: one of `backends()`; ignored if `map_name` tells another.
        seed: the root of all the randomness in the environment. In a compiled world, equal seeds and actions give equal
            episodes.
        **options: the options of the backend; `make` lists them.
    Returns:
        A `TFEnvironment` with `batch_size` B. Its attribute `world` is the world inside it.
    Raises:
        ValueError: the map, the backend or an option is unknown, or a value has the wrong type or size; the message
            names it.
    """
    from tf_marl.environments.tf_environments import around

    return around(make(map_name, num_envs=num_envs, backend=backend, seed=seed, **options), seed)
