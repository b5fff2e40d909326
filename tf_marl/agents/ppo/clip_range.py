"""How far a ratio may go from 1 before it is clipped: rules for epsilon, to be put together in gin.

    ppo.clip_range = 0.2                   # or @fixed() with fixed.epsilon = 0.2

    ppo.clip_range = @per_agent()          # alpha / N
    per_agent.alpha = 1.0

    ppo.clip_range = @linear()             # any of them, scaled down as training goes on
    linear.rule = @per_agent()

    ppo.clip_range = None                   # no clipping

Theorem 3 bounds the joint policy's total variation where sum_k |ratio_k - 1| <= alpha, which N ratios in
[1 - alpha / N, 1 + alpha / N] ensure: so a good epsilon depends on the number of agents.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import pydantic
import tensorflow as tf

from tf_marl.config import maker

# (alive [..., N] bool, progress [] in [0, 1]) -> epsilon, [] or [..., 1]
ClipRule: TypeAlias = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def _as_rule(given: Any) -> ClipRule:
    if callable(given) and not hasattr(given, "is_maker"):
        return given
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < math.inf:
        return lambda alive, progress: tf.constant(given, tf.float32)
    raise ValueError("should be a positive number, a rule such as @per_agent(), or None for no clipping")


Scale = Annotated[Any, pydantic.AfterValidator(_as_rule)]  # a number means `fixed`
ClipRange = Annotated[Any, pydantic.AfterValidator(lambda given: None if given is None else _as_rule(given))]


@maker("clip_range")
def fixed(epsilon: pydantic.PositiveFloat) -> ClipRule:
    """Always epsilon."""
    return _as_rule(epsilon)


@maker("clip_range")
def per_agent(alpha: pydantic.PositiveFloat) -> ClipRule:
    """alpha / N, for a team of N agents (Theorem 3)."""
    return lambda alive, progress: tf.constant(alpha / alive.shape[-1], tf.float32)


@maker("clip_range")
def per_living_agent(alpha: pydantic.PositiveFloat) -> ClipRule:
    """alpha over the number of agents that live, at each state: the dead cannot move the joint policy."""

    def epsilon(alive: tf.Tensor, progress: tf.Tensor) -> tf.Tensor:
        living = tf.reduce_sum(tf.cast(alive, tf.float32), axis=-1, keepdims=True)
        return alpha / tf.maximum(living, 1.0)

    return epsilon


@maker("clip_range")
def linear(rule: Scale, final: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.0) -> ClipRule:
    """Another rule's epsilon, scaled from 1 at the start of training down to `final` at its end."""
    return lambda alive, progress: rule(alive, progress) * (1.0 - (1.0 - final) * progress)
