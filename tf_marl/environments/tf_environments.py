"""The TF-Agents environments around worlds, for anyone's drivers, buffers and agents."""

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
    """The environment around a world, of its kind. Args: seed, root of the chance in a compiled one."""
    if isinstance(world, CompiledWorld):
        return CompiledEnvironment(world, seed)
    assert isinstance(world, LiveWorld)
    return LiveEnvironment(world)


class CompiledEnvironment(tf_environment.TFEnvironment):
    """A TF-Agents environment around a compiled world.

    Keeps the state in variables and draws one seed per step from `seed`: equal seeds and actions, equal episodes.
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
        """Variables, made when they are first asked for: who wants the world alone need not pay for them."""
        with tf.init_scope():  # not by a graph that asks
            return tf.nest.map_structure(
                lambda leaf: tf.Variable(leaf, trainable=False), self.world.reset(self._root_seed)
            )

    def info(self) -> dict[str, tf.Tensor]:
        """Facts about the episodes under way that are no observation, [B] each (see the world's `info`)."""
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
    """A TF-Agents environment around a live world. Our own training goes by the world."""

    def __init__(self, world: LiveWorld):
        super().__init__(world.time_step_spec, world.action_spec, world.num_envs)
        self.world = world
        self._shown: ts.TimeStep | None = None
        self._specs = tf.nest.flatten(world.time_step_spec)

    def info(self) -> dict[str, tf.Tensor]:
        """Facts about the episodes under way that are no observation, [B] each (see the world's `info`)."""
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
        """What a Python function comes to, be it called here or in a graph."""

        def leaves(*arguments: Any) -> list[np.ndarray]:
            # Copies: TensorFlow may take over an array without one.
            return [np.array(leaf) for leaf in tf.nest.flatten(function(*arguments))]

        flat = tf.numpy_function(leaves, arguments, [spec.dtype for spec in self._specs])
        flat = [
            tf.ensure_shape(leaf, [self.world.num_envs, *spec.shape])
            for leaf, spec in zip(flat, self._specs, strict=True)
        ]
        return tf.nest.pack_sequence_as(self.time_step_spec(), flat)
