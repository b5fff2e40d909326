"""Learners that explore by random actions take fewer and fewer of them."""

from typing import Annotated

import pydantic
import tensorflow as tf

from tf_marl.config import STRICT, Count

Fraction = Annotated[float, pydantic.Field(ge=0, le=1)]


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Exploration:
    """Holds the settings of epsilon, the probability of a random action, which falls linearly with the env steps."""

    epsilon_start: Fraction = 1.0
    epsilon_end: Fraction = 0.05
    epsilon_env_steps: Count = 100_000  # env steps until it has fallen

    def epsilon(self, env_steps: tf.Tensor) -> tf.Tensor:
        """Returns the probability of a random action, a scalar.

        Args:
            env_steps: scalar integer, what the learner has learned from so far.
        """
        share = tf.minimum(tf.cast(env_steps, tf.float32) / self.epsilon_env_steps, 1.0)
        return self.epsilon_start + share * (self.epsilon_end - self.epsilon_start)
