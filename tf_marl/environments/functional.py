"""Environments as pure functions of tensors, and the TF-Agents environment around any of them.

A functional environment keeps nothing: state in, state out, randomness from explicit seeds. So a whole rollout
compiles into one program, and the same core serves TF-Agents' drivers through `FunctionalEnvironment`.
"""

import functools
from typing import Any, Protocol

import tensorflow as tf
from tf_agents.environments import tf_environment
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl import graph

State = Any  # a nest of tensors


class FunctionalCore(Protocol):
    """B battles (games, tasks) side by side, as TF-Agents sees them: after the last step of an episode, `step` ignores
    the action and starts the next episode.

    All of it is compiled: Python loops and conditions on tensors need `graph.converted`.
    """

    num_envs: int  # B
    time_step_spec: ts.TimeStep  # of one environment
    action_spec: types.NestedTensorSpec  # of one environment: int32 [N]
    unit_types: tuple[str, ...]  # [N] names of what the agents are
    episode_limit: int  # env steps; no episode is longer

    def resize(self, num_envs: int) -> "FunctionalCore":
        """The same environment with another B."""

    def reset(self, seed: tf.Tensor) -> State:
        """B fresh episodes. Args: seed [2] int32."""

    def step(self, state: State, action: tf.Tensor, seed: tf.Tensor) -> State:
        """One env step. Args: action int32 [B, N]; seed [2] int32."""

    def time_step(self, state: State) -> ts.TimeStep:
        """What the agents get to know, [B, ...]."""

    def info(self, state: State) -> dict[str, tf.Tensor]:
        """What only the record-keeper gets to know, [B] each; `battle_won` bool among it."""


class FunctionalEnvironment(tf_environment.TFEnvironment):
    """A TF-Agents environment around a functional core.

    Keeps the state in variables and draws one seed per step from `seed`: equal seeds and actions, equal episodes.
    """

    def __init__(self, core: FunctionalCore, seed: int = 0):
        super().__init__(core.time_step_spec, core.action_spec, core.num_envs)
        self.core = core
        self._root_seed = tf.constant([seed, 0], tf.int32)
        self._count = tf.Variable(0, dtype=tf.int32, trainable=False, name="seed_count")
        self._compiled_reset = graph.function(core.reset, jit_compile=True)
        self._compiled_step = graph.function(core.step, jit_compile=True)
        self._compiled_time_step = graph.function(core.time_step, jit_compile=True)

    @functools.cached_property
    def _state(self) -> State:
        """Variables, made when they are first asked for: who wants the core alone need not pay for them."""
        with tf.init_scope():  # not by a graph that asks
            return tf.nest.map_structure(
                lambda leaf: tf.Variable(leaf, trainable=False), self.core.reset(self._root_seed)
            )

    def info(self) -> dict[str, tf.Tensor]:
        """Facts about the episodes under way that are no observation, [B] each (see the core's `info`)."""
        return self.core.info(self._read())

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
