"""TF-Agents environments wrap the worlds here, so that anyone's drivers, replay buffers and agents can play in them."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tf_agents.environments import tf_environment
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.compile import graph
from tf_marl.environments.world import CompiledWorld, LiveWorld, State, World


def around(world: World, seed: int = 0) -> "CompiledEnvironment | LiveEnvironment":
    """Makes the TF-Agents environment around a world, of the kind that suits it.

    Args:
        world: a compiled or a live world.
        seed: the root of the randomness of a compiled world; a live world has its own.
    Returns:
        The environment; its `batch_size` is the world's B.
    """
    if isinstance(world, CompiledWorld):
        return CompiledEnvironment(world, seed)
    assert isinstance(world, LiveWorld)
    return LiveEnvironment(world)


class CompiledEnvironment(tf_environment.TFEnvironment):
    """Plays a compiled world as a TF-Agents environment.

    It keeps the world's state in TensorFlow variables and draws one seed for each step from `seed`. So equal seeds and
    actions give equal episodes.

    Args:
        world: the world to play, with B environments.
        seed: the root of all the randomness.
    """

    def __init__(self, world: CompiledWorld, seed: int = 0):
        super().__init__(world.time_step_spec, world.action_spec, world.num_envs)
        self.world = world
        self._root_seed = tf.constant([seed, 0], tf.int32)
        self._count = tf.Variable(0, dtype=tf.int32, trainable=False, name="seed_count")
        self._compiled_reset = graph.function(world.reset, jit_compile=True)
        self._compiled_step = graph.function(world.step, jit_compile=True)
        self._compiled_time_step = graph.function(world.time_step, jit_compile=True)

    @functools.cached_property
    def _state(self) -> State:
        """Returns the state in variables, which are made at their first use: loading only the world stays cheap."""
        with tf.init_scope():  # outside of any graph that is being traced
            return tf.nest.map_structure(
                lambda leaf: tf.Variable(leaf, trainable=False), self.world.reset(self._root_seed)
            )

    def info(self) -> dict[str, tf.Tensor]:
        """Returns facts about the current episodes that are recorded but not observed: tensors [B] by name.

        They come from the world's `info`, and `battle_won` is an example.
        """
        return self.world.info(self._read())

    def _read(self) -> State:
        return tf.nest.map_structure(tf.convert_to_tensor, self._state)

    def _write(self, state: State) -> ts.TimeStep:
        tf.nest.map_structure(lambda variable, leaf: variable.assign(leaf), self._state, state)
        return self._compiled_time_step(state)

    def _next_seed(self) -> tf.Tensor:
        return tf.random.experimental.stateless_fold_in(self._root_seed, self._count.assign_add(1))

    def _current_time_step(self) -> ts.TimeStep:
        return self._compiled_time_step(self._read())

    def _reset(self) -> ts.TimeStep:
        return self._write(self._compiled_reset(self._next_seed()))

    def _step(self, action: types.NestedTensor) -> ts.TimeStep:
        return self._write(self._compiled_step(self._read(), tf.convert_to_tensor(action), self._next_seed()))


class LiveEnvironment(tf_environment.TFEnvironment):
    """Plays a live world as a TF-Agents environment. This project's own training uses the world directly.

    Args:
        world: the world to play, with B environments.
    """

    def __init__(self, world: LiveWorld):
        super().__init__(world.time_step_spec, world.action_spec, world.num_envs)
        self.world = world
        self._shown: ts.TimeStep | None = None
        self._specs = tf.nest.flatten(world.time_step_spec)

    def info(self) -> dict[str, tf.Tensor]:
        """Returns facts about the current episodes that are recorded but not observed: tensors [B] by name.

        They come from the world's `info`, and `battle_won` is an example. The world is reset first if it was not played
        yet.
        """
        self._now()
        return {name: tf.constant(fact) for name, fact in self.world.info().items()}

    def _now(self) -> ts.TimeStep:
        if self._shown is None:
            self._shown = self.world.reset()
        return self._shown

    def _current_time_step(self) -> ts.TimeStep:
        return self._call(self._now)

    def _reset(self) -> ts.TimeStep:
        def reset() -> ts.TimeStep:
            self._shown = self.world.reset()
            return self._shown

        return self._call(reset)

    def _step(self, action: types.NestedTensor) -> ts.TimeStep:
        def step(action: np.ndarray) -> ts.TimeStep:
            self._now()
            self._shown = self.world.step(np.asarray(action))
            return self._shown

        return self._call(step, action)

    def _call(self, function: Callable[..., ts.TimeStep], *arguments: Any) -> ts.TimeStep:
        """Calls a Python function that returns a time step, also from within a graph; returns the step as tensors."""

        def leaves(*arguments: Any) -> list[np.ndarray]:
            # Copies: TensorFlow may take over an array without one.
            return [np.array(leaf) for leaf in tf.nest.flatten(function(*arguments))]

        flat = tf.numpy_function(leaves, arguments, [spec.dtype for spec in self._specs])
        flat = [
            tf.ensure_shape(leaf, [self.world.num_envs, *spec.shape])
            for leaf, spec in zip(flat, self._specs, strict=True)
        ]
        return tf.nest.pack_sequence_as(self.time_step_spec(), flat)
