"""A player is what a worker process runs for JaxMARL's SMAX: all battles. `processes/worker.py` loads this file.

Run as a script, `python worker.py SETTINGS` prints what a map is like, as JSON.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxmarl.environments.smax import HeuristicEnemySMAX, map_name_to_scenario


def make_env(settings: dict[str, Any]) -> HeuristicEnemySMAX:
    """Makes SMAX with JaxMARL's scripted enemies.

    Args:
        settings: `name`, the map, and `env_kwargs`, arguments of `HeuristicEnemySMAX`.
    """
    return HeuristicEnemySMAX(scenario=map_name_to_scenario(settings["name"]), **settings["env_kwargs"])


class Player:
    """Plays the battles of one worker as one program.

    Args:
        settings: those of `make_env`, and `seed`, the root of all randomness.
        memory: the arrays that both sides see.
    """

    def __init__(self, settings: dict[str, Any], memory: dict[str, np.ndarray]):
        self._env = make_env(settings)
        self._memory = memory
        self._root = jax.random.fold_in(jax.random.PRNGKey(settings["seed"]), settings["launch"])
        self._count = 0
        self._compiled = jax.jit(self._played)
        self._state = jax.vmap(self._env.reset)(self._keys(self._root))[1]

    def _keys(self, key: jax.Array) -> jax.Array:
        """Returns a key for each battle, [E, 2]."""
        return jax.random.split(key, len(self._memory["command"]))

    def _played(
        self, state: Any, key: jax.Array, begin: jax.Array, go_on: jax.Array, action: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Starts some battles, [E] bool, plays a step of others, [E] bool, and shows all of them, arrays [E, ...]."""
        env = self._env
        reset_key, step_key = jax.random.split(key)
        fresh = jax.vmap(env.reset)(self._keys(reset_key))[1]
        actions = {agent: action[:, i] for i, agent in enumerate(env.agents)}
        _, stepped, rewards, _, _ = jax.vmap(env.step_env)(self._keys(step_key), state, actions)

        def choose(fresh: jax.Array, stepped: jax.Array, old: jax.Array) -> jax.Array:
            first, goes = (jnp.reshape(mask, [-1] + [1] * (old.ndim - 1)) for mask in (begin, go_on))
            return jnp.where(first, fresh, jnp.where(goes, stepped, old))

        state = jax.tree.map(choose, fresh, stepped, state)
        alive = state.state.unit_alive
        allies, enemies = alive[:, : env.num_allies], alive[:, env.num_allies :]
        over = state.state.done
        won = over & allies.any(axis=1) & ~enemies.any(axis=1)
        team = [jax.vmap(function)(state) for function in (env.get_obs, env.get_avail_actions)]
        obs, masks = (jnp.stack([told[agent] for agent in env.agents], axis=1) for told in team)
        return state, {
            "obs": obs,
            "state": jax.vmap(env.get_world_state)(state),
            "reward": jnp.where(go_on, rewards[env.agents[0]], 0.0),  # all are paid the team's
            "avail_actions": masks,
            "alive": allies,
            "over": over,
            "timeout": over & allies.any(axis=1) & enemies.any(axis=1),
            "outcomes": won[:, None],
        }

    def play(self, begin: Sequence[int], go_on: Sequence[int]) -> None:
        """Starts an episode in some battles, and plays a step in others.

        Args:
            begin: the indices of the former.
            go_on: the indices of the latter.
        """
        masks = np.zeros([2, len(self._memory["command"])], bool)
        masks[0, begin] = masks[1, go_on] = True
        self._count += 1
        key = jax.random.fold_in(self._root, self._count)
        self._state, shown = self._compiled(self._state, key, *masks, self._memory["action"])
        for name, array in shown.items():
            self._memory[name][...] = array


def describe(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns what a map is like: unit types, and the sizes N, A, O, S and of the longest episode.

    Args:
        settings: those of `make_env`.
    """
    env = make_env(settings)
    scenario = map_name_to_scenario(settings["name"])
    types = np.asarray(scenario.unit_types)[: env.num_allies]
    drawn = scenario.smacv2_unit_type_generation
    return {
        "unit_types": ["unit" if drawn else env.unit_type_names[unit_type] for unit_type in types],
        "num_actions": int(env.num_ally_actions),
        "obs_size": int(env.obs_size),
        "state_size": int(env.state_size),
        "episode_limit": int(env.max_steps) + 1,  # it looks at the time before it counts the step
    }


def main(text: str) -> None:
    """Prints what `describe` returns, or an `error`, as JSON.

    Args:
        text: the settings as JSON.
    """
    try:
        told = describe(json.loads(text))
    except Exception as error:
        told = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
