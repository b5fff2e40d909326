"""The policy step of PPO passes over a rollout in minibatches and takes a gradient step on each.

An update consists of such steps. `Step` is their protocol, so other ways to move the weights can take their place.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import tensorflow as tf

from tf_marl.agents.learner import Metrics
from tf_marl.agents.ppo.batch import Batch
from tf_marl.agents.ppo.config import PPOConfig
from tf_marl.agents.ppo.hooks import Actor, Change, Hook
from tf_marl.agents.ppo.losses import Losses
from tf_marl.agents.ppo.optimizers import Part
from tf_marl.compile import graph, shards
from tf_marl.networks import training_flops


class Step(Protocol):
    """Describes one part of an update, which moves weights by learning from a batch."""

    moves_actor: bool

    def __call__(
        self,
        batch: Batch,
        seed: tf.Tensor,
        agent: Actor,
        change: Change,
        hooks: Sequence[Hook],
        memories: tuple[Any, ...],
    ) -> tuple[Metrics, tf.Tensor, tuple[Any, ...]]:
        """Learns from a batch.

        Args:
            batch: the rollout with advantages, in sequences [S, L, ...].
            seed: [2] int32.
            agent: the learning agent, which the hooks may read and change.
            change: function without arguments; returns the `PolicyChange` from the policy that collected the rollout to
                the present one.
            hooks: called after every epoch; empty if this step does not move the actor.
            memories: what the hooks remember, one nest of tensors per hook.
        Returns:
            Scalars to record, the number of epochs (scalar int32), and the hooks' new memories.
        """

    def flops(self) -> int:
        """Returns the floating-point operations of the step's matrix products, per row if all its decisions count."""


class Epochs:
    """Passes over a batch several times in minibatches, and takes a gradient step of each part on each of them.

    Args:
        parts: the groups of weights that learn, each with its optimiser.
        losses: computes the losses of a batch.
        num_epochs: number of passes, unless a hook ends them early.
        config: the other settings.
        jit_compile: whether XLA compiles the gradients, in one program per CPU core.
    """

    def __init__(self, parts: Sequence[Part], losses: Losses, num_epochs: int, config: PPOConfig, jit_compile: bool):
        self.moves_actor = any(part.moves_actor for part in parts)
        self.num_epochs = num_epochs
        self._parts = tuple(parts)
        self._losses = losses
        self._config = config
        self._gradients = graph.function(self._gradients_of_shard, jit_compile=jit_compile)
        self._on_shards = shards.side_by_side if jit_compile else lambda function, *rows: [function(*rows)]

    @graph.converted
    def __call__(self, batch, seed, agent, change, hooks, memories):
        num_sequences, num_minibatches = batch.action.shape[0], self._config.num_minibatches
        size = num_sequences // num_minibatches
        names = [name for part in self._parts for name in (*part.losses, f"grad_norm/{part.name}")]
        totals = dict.fromkeys(names, tf.constant(0.0))
        epochs = tf.constant(0)
        for epoch in tf.range(self.num_epochs):
            chance = tf.random.stateless_uniform([num_sequences], tf.random.experimental.stateless_fold_in(seed, epoch))
            order = tf.argsort(chance)[: size * num_minibatches]  # XLA knows no stateless_shuffle
            for rows in tf.reshape(order, [num_minibatches, size]):
                told = self._gradient_step(batch.rows(rows) if num_minibatches > 1 else batch)
                totals = {name: total + told[name] for name, total in totals.items()}
            epochs += 1
            memories, stops = _after_epoch(hooks, agent, change, epochs, memories)
            if stops:
                break
        num_steps = tf.cast(epochs * num_minibatches, tf.float32)
        return {name: total / num_steps for name, total in totals.items()}, epochs, memories

    def flops(self) -> int:
        """Returns the floating-point operations of all epochs' matrix products, per row if all its decisions count."""
        return self.num_epochs * sum(training_flops(part.network) for part in self._parts)

    def _gradient_step(self, batch: Batch) -> Metrics:
        parts = self._on_shards(self._gradients, batch, *self._losses.shares(batch))
        told, gradients = tf.nest.map_structure(lambda *leaves: tf.add_n(leaves), *parts)
        for part, own in zip(self._parts, gradients, strict=True):
            told[f"grad_norm/{part.name}"] = part.step(own, self._config.max_grad_norm)
        return told

    def _gradients_of_shard(
        self, batch: Batch, share: tf.Tensor, agent_share: tf.Tensor
    ) -> tuple[Metrics, list[list[tf.Tensor]]]:
        with tf.GradientTape() as tape:
            losses = self._losses.of_shard(batch, share, agent_share)
            objective = tf.add_n([part.objective(losses) for part in self._parts])
        told = {name: losses[name] for part in self._parts for name in part.losses}
        return told, tape.gradient(objective, [part.moved for part in self._parts])


def _after_epoch(
    hooks: Sequence[Hook],
    agent: Actor,
    change: Change,
    epochs: tf.Tensor,
    memories: tuple[Any, ...],
) -> tuple[tuple[Any, ...], "tf.Tensor | bool"]:
    told = [hook.after_epoch(agent, change, epochs, memory) for hook, memory in zip(hooks, memories, strict=True)]
    stops = [stop for _, stop in told]
    return tuple(memory for memory, _ in told), tf.reduce_any(stops) if stops else False
