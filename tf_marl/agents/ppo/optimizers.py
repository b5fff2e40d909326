"""Optimisers, and what each of them moves and minimises."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_marl.agents.learner import Metrics
from tf_marl.agents.ppo.config import PPOConfig


class Part(tf.Module):
    """Some weights that are learned together.

    Args:
        name: of its `grad_norm/..`.
        variables: that it moves.
        optimizer: that moves them.
        objective: losses -> what is minimised, [].
        losses: names of those that it goes by; nothing else need be computed for it.
        network: whose passes it takes.
        moves_actor: whether the policy changes with it.
    """

    def __init__(
        self,
        name: str,
        variables: list[tf.Variable],
        optimizer: tf.keras.optimizers.Optimizer,
        objective: Callable[[Metrics], tf.Tensor],
        losses: tuple[str, ...],
        network: Any,
        moves_actor: bool,
    ):
        super().__init__(name)
        self.moved, self.optimizer, self.objective = variables, optimizer, objective
        self.losses, self.network, self.moves_actor = losses, network, moves_actor

    def step(self, gradients: Sequence[tf.Tensor], max_norm: float | None) -> tf.Tensor:
        """One step down some gradients, clipped if so wished. Returns: their norm before that, []."""
        norm = tf.linalg.global_norm(gradients)
        if max_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, max_norm, norm)
        self.optimizer.apply_gradients(zip(gradients, self.moved, strict=True))
        return norm


class Scheduled(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that goes by training's progress, not by the optimiser's count of steps."""

    def __init__(self, rate: Callable[[], tf.Tensor]):
        self._rate = rate

    def __call__(self, step: Any) -> tf.Tensor:
        return self._rate()


def make(config: PPOConfig, rate: Callable[[], tf.Tensor], variables: list[tf.Variable]) -> Any:
    """The optimiser of some variables.

    Its own variables are made at once: a checkpoint of an agent that has not learned yet has a place for them, and the
    first update is traced but once.
    """
    if config.optimizer == "adamw":
        optimizer = tf.keras.optimizers.AdamW(Scheduled(rate), config.weight_decay, epsilon=config.adam_epsilon)
        optimizer.build(variables)
        return optimizer
    # Keras' legacy Adam is one fused op per variable; the newer one is many small ones.
    optimizer = tf.keras.optimizers.legacy.Adam(Scheduled(rate), epsilon=config.adam_epsilon)
    optimizer._create_all_weights(variables)
    return optimizer
