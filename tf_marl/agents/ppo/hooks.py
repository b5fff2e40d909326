"""What may watch or restrain an update: told before the actor's epochs, after each, and after the last."""

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import tensorflow as tf

from tf_marl import diagnostics
from tf_marl.agents.learner import Metrics

Change: TypeAlias = Callable[[], diagnostics.PolicyChange]  # from the policy that collected the rollout to the present


class Actor(Protocol):
    """What a hook knows of the agent that learns."""

    actor_weights: list[tf.Variable]
    epsilon_scale: tf.Variable


class Hook:
    """By itself it does nothing. What it remembers from call to call is a nest of tensors, its memory.

    Python loops and conditions on tensors need `graph.converted`, as in all that is called in a compiled function.
    """

    def begin(self, agent: Actor, change: Change) -> Any:
        """Before the first epoch. Args: change, how far the policy has moved when it is called. Returns: its memory."""
        del agent, change
        return ()

    def after_epoch(self, agent: Actor, change: Change, epochs: tf.Tensor, memory: Any) -> tuple[Any, tf.Tensor]:
        """Args: epochs, done so far, [] int32. Returns: its memory, and whether that was the last epoch, [] bool."""
        del agent, change, epochs
        return memory, tf.constant(False)

    def end(self, agent: Actor, change: Change, epochs: tf.Tensor, memory: Any) -> tuple[Any, Metrics]:
        """After the last epoch. Args: epochs, done, [] int32. Returns: its memory, and scalars to record."""
        del agent, change, epochs
        return memory, {}


class Watch(Hook):
    """Keeps what a function makes of the policy: rows [num_epochs + 1, ...], before each epoch and after the last.

    Rows of epochs that an early stop left out are NaN. The last is of the policy as all hooks before this one left it.

    Args:
        look: (epochs so far, [] int32; the change so far) -> a nest of float tensors.
        num_epochs: at most.
    """

    def __init__(self, look: Callable[[tf.Tensor, diagnostics.PolicyChange], Any], num_epochs: int):
        self._look = look
        self._num_epochs = num_epochs

    def begin(self, agent, change):
        first = self._look(tf.constant(0), change())
        return tf.nest.map_structure(
            lambda leaf: tf.concat([leaf[None], tf.fill([self._num_epochs, *leaf.shape], math.nan)], axis=0), first
        )

    def after_epoch(self, agent, change, epochs, memory):
        row = self._look(epochs, change())
        put = tf.nest.map_structure(lambda rows, one: tf.tensor_scatter_nd_update(rows, [[epochs]], [one]), memory, row)
        return put, tf.constant(False)

    def end(self, agent, change, epochs, memory):
        return self.after_epoch(agent, change, epochs, memory)[0], {}
