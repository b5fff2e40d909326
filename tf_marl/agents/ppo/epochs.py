"""The policy step of PPO: passes over a rollout, in minibatches, each a gradient step.

A step is what an update is made of, and can be exchanged: whatever takes a batch and the hooks, and moves weights.
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
    """A part of an update."""

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
            batch: of the rollout.
            seed: [2] int32.
            agent, change: for the hooks.
            hooks: to be told after every epoch; none where the actor does not move.
            memories: theirs.
        Returns:
            Scalars to record, the number of epochs [] int32, and the hooks' memories.
        """

    def flops(self) -> int:
        """Floating-point operations of its matrix products, per row of the rollout."""


class Epochs:
    """So many passes over a batch, in minibatches, in which each part takes its own gradient steps.

    Args:
        parts: that learn.
        losses: of a batch.
        num_epochs: passes, unless a hook ends them.
        config: the rest.
        jit_compile: whether gradients are XLA's, in a program a core.
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
