"""Hooks watch or restrain an update; they are called before the first epoch, after each one and at the end.

Where the actor is moved in another way, something else takes the place of an epoch: an agent's turn, or the one step
along the natural gradient.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import tensorflow as tf

from tf_marl import diagnostics
from tf_marl.agents.learner import Metrics

Change: TypeAlias = Callable[[], diagnostics.PolicyChange]  # from the policy that collected the rollout to the present


class Actor(Protocol):
    """Describes what a hook can read and change of the agent that learns."""

    actor_weights: list[tf.Variable]
    epsilon_scale: tf.Variable


class Hook:
    """Watches or restrains an update; this base class does nothing.

    What a hook remembers between its calls is a nest of tensors, its memory. Hooks run in compiled functions without
    AutoGraph, so Python loops and conditions on tensors need the decorator `graph.converted`.
    """

    def begin(self, agent: Actor, change: Change) -> Any:
        """Prepares for an update, before the first epoch.

        Args:
            agent: the agent that learns.
            change: function without arguments; returns the `PolicyChange` from the policy that collected the rollout to
                the one at the time of the call.
        Returns:
            The hook's memory, a nest of tensors.
        """
        del agent, change
        return ()

    def after_epoch(self, agent: Actor, change: Change, epochs: tf.Tensor, memory: Any) -> tuple[Any, tf.Tensor]:
        """Looks at the policy after an epoch, and may end the epochs.

        Args:
            agent: the agent that learns.
            change: function without arguments; returns the `PolicyChange` from the policy that collected the rollout to
                the one at the time of the call.
            epochs: scalar int32, epochs done so far.
            memory: what the hook's previous call returned.
        Returns:
            The new memory, and whether this epoch is the last one, a scalar bool.
        """
        del agent, change, epochs
        return memory, tf.constant(False)

    def end(self, agent: Actor, change: Change, epochs: tf.Tensor, memory: Any) -> tuple[Any, Metrics]:
        """Looks at the policy after the last epoch, and may change it.

        Args:
            agent: the agent that learns.
            change: function without arguments; returns the `PolicyChange` from the policy that collected the rollout to
                the one at the time of the call.
            epochs: scalar int32, epochs done.
            memory: what the hook's previous call returned.
        Returns:
            The memory, and scalars to record.
        """
        del agent, change, epochs
        return memory, {}


class Watch(Hook):
    """Records measurements of the policy before each epoch and after the update, as rows [num_epochs + 1, ...].

    If a hook ends the epochs early, the rows of the missing epochs are NaN. The row after the last epoch is measured
    again at the end, after all hooks before this one.

    Args:
        look: measures the policy: (epochs so far, scalar int32; the change so far) -> a nest of float tensors.
        num_epochs: the largest possible number of epochs.
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
