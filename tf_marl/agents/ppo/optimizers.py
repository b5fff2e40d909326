"""Each optimiser of PPO moves some weights to minimise an objective of its own."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_marl.agents.learner import Metrics
from tf_marl.agents.ppo.config import PPOConfig


class Part(tf.Module):
    """Holds some weights that are learned together, with their optimiser and objective.

    Args:
        name: of the part; its gradient norm is recorded as `grad_norm/NAME`.
        variables: the weights that the optimiser moves.
        optimizer: moves them.
        objective: from the losses by name to the scalar that is minimised.
        losses: names of the losses that the objective reads; they are recorded.
        network: the module whose forward and backward passes the part takes, for counting operations.
        moves_actor: whether the part changes the policy.
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
        """Takes one gradient step.

        Args:
            gradients: one tensor per variable, shaped like it.
            max_norm: their global norm is clipped to this; None does not clip.
        Returns:
            Their global norm before clipping, a scalar.
        """
        norm = tf.linalg.global_norm(gradients)
        if max_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, max_norm, norm)
        self.optimizer.apply_gradients(zip(gradients, self.moved, strict=True))
        return norm


class Scheduled(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Gives a learning rate that follows the progress of training instead of the optimiser's own step count.

    Args:
        rate: returns the present learning rate, a scalar.
    """

    def __init__(self, rate: Callable[[], tf.Tensor]):
        self._rate = rate

    def __call__(self, step: Any) -> tf.Tensor:
        return self._rate()


def make(config: PPOConfig, rate: Callable[[], tf.Tensor], variables: list[tf.Variable]) -> Any:
    """Makes the optimiser of some variables.

    Its own variables are created at once. So a checkpoint of an agent that has not learned yet includes them, and the
    first update is traced only once.

    Args:
        config: names the optimiser and its settings.
        rate: returns the present learning rate, a scalar tensor.
        variables: that it will move.
    Returns:
        A Keras optimiser.
    """
    if config.optimizer == "adamw":
        optimizer = tf.keras.optimizers.AdamW(Scheduled(rate), config.weight_decay, epsilon=config.adam_epsilon)
        optimizer.build(variables)
        return optimizer
    # Keras' legacy Adam runs one fused operation per variable; the newer Adam runs many small ones.
    optimizer = tf.keras.optimizers.legacy.Adam(Scheduled(rate), epsilon=config.adam_epsilon)
    optimizer._create_all_weights(variables)
    return optimizer
