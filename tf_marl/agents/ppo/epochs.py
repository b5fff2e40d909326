"""The policy step of PPO passes over a rollout in minibatches and takes a gradient step on each."""

from collections.abc import Sequence

import tensorflow as tf

from tf_marl.agents.learner import Metrics
from tf_marl.agents.ppo.batch import Batch
from tf_marl.agents.ppo.config import PPOConfig
from tf_marl.agents.ppo.losses import Losses
from tf_marl.agents.ppo.optimizers import Part
from tf_marl.agents.ppo.step import Learning
from tf_marl.compile import graph, shards
from tf_marl.networks import Actor, training_flops


class Epochs(tf.Module):
    """Passes over a batch several times in minibatches, and takes a gradient step of each part on each of them.

    Args:
        parts: the groups of weights that learn, each with its optimiser.
        losses: computes the losses of a batch.
        num_epochs: number of passes, unless a hook ends them early.
        config: the other settings.
        jit_compile: whether XLA compiles the gradients, in one program per CPU core.
    """

    def __init__(self, parts: Sequence[Part], losses: Losses, num_epochs: int, config: PPOConfig, jit_compile: bool):
        super().__init__("epochs")
        self.moves_actor = any(part.moves_actor for part in parts)
        self.moves_critic = any("loss/value" in part.losses for part in parts)
        self.names = tuple(name for part in parts for name in (*part.losses, f"grad_norm/{part.name}"))
        self.num_rounds, self.num_minibatches = num_epochs, config.num_minibatches
        self._parts = tuple(parts)
        self._losses = losses
        self._max_grad_norm = config.max_grad_norm
        self._gradients = graph.function(self._gradients_of_shard, jit_compile=jit_compile)
        self._on_shards = shards.side_by_side if jit_compile else lambda function, *rows: [function(*rows)]

    @property
    def optimizer_variables(self) -> list[tf.Variable]:
        """Returns the optimisers' own variables: step counts and moments."""
        return [variable for part in self._parts for variable in part.optimizer.variables()]

    @graph.converted
    def __call__(self, batch, seed, around, memories):
        num_sequences, num_minibatches = batch.action.shape[0], self.num_minibatches
        size = num_sequences // num_minibatches
        totals = dict.fromkeys(self.names, tf.constant(0.0))
        epochs = tf.constant(0)
        for epoch in tf.range(self.num_rounds):
            chance = tf.random.stateless_uniform([num_sequences], tf.random.experimental.stateless_fold_in(seed, epoch))
            order = tf.argsort(chance)[: size * num_minibatches]  # XLA knows no stateless_shuffle
            for rows in tf.reshape(order, [num_minibatches, size]):
                told = self._gradient_step(around.prepare(batch.rows(rows) if num_minibatches > 1 else batch))
                totals = {name: total + told[name] for name, total in totals.items()}
            epochs += 1
            memories, stops = around.after_round(epochs, memories)
            if stops:
                break
        num_steps = tf.cast(epochs * num_minibatches, tf.float32)
        return {name: total / num_steps for name, total in totals.items()}, epochs, memories

    def flops(self) -> int:
        """Returns the floating-point operations of all epochs' matrix products, per row if all its decisions count."""
        return self.num_rounds * sum(training_flops(part.network) for part in self._parts)

    def _gradient_step(self, batch: Batch) -> Metrics:
        parts = self._on_shards(self._gradients, batch, *self._losses.shares(batch))
        told, gradients = tf.nest.map_structure(lambda *leaves: tf.add_n(leaves), *parts)
        for part, own in zip(self._parts, gradients, strict=True):
            told[f"grad_norm/{part.name}"] = part.step(own, self._max_grad_norm)
        return told

    def _gradients_of_shard(
        self, batch: Batch, share: tf.Tensor, agent_share: tf.Tensor
    ) -> tuple[Metrics, list[list[tf.Tensor]]]:
        with tf.GradientTape() as tape:
            losses = self._losses.of_shard(batch, share, agent_share)
            objective = tf.add_n([part.objective(losses) for part in self._parts])
        told = {name: losses[name] for part in self._parts for name in part.losses}
        return told, tape.gradient(objective, [part.moved for part in self._parts])


def clipped_epochs(agent: Learning, actor: Actor, losses: Losses) -> Epochs:
    """Makes PPO's step for an actor: as many epochs as the settings say.

    Args:
        agent: the agent that learns.
        actor: the network that the step moves.
        losses: of this actor, from batches [S, L, ...].
    """
    return Epochs([agent.actor_part(actor)], losses, agent.config.num_epochs, agent.config, agent.jit_compile)
