"""A clip range is a rule for epsilon, how far a ratio may be from 1 before it is clipped; gin puts rules together.

    ppo.clip_range = 0.2                   # or @fixed() with fixed.epsilon = 0.2

    ppo.clip_range = @per_agent()          # alpha / N
    per_agent.alpha = 1.0

    ppo.clip_range = @per_sqrt_agents()    # about 2 alpha / sqrt(N)
    per_sqrt_agents.alpha = 0.2

    ppo.clip_range = @linear()             # scales another rule down as training goes on
    linear.rule = @per_agent()

    ppo.clip_range = None                   # no clipping

Theorem 3 of the paper "Monotonic Improvement Guarantees under Non-stationarity for Decentralized PPO" bounds the joint
policy's total variation where `sum_k |ratio_k - 1| <= alpha`. That holds if all N ratios stay in
[1 - alpha / N, 1 + alpha / N], so a good epsilon depends on the number of agents.

The same alpha allows for a wider range, because independent agents' changes add up like sqrt(N). If all ratios stay in
[1 - epsilon, 1 + epsilon], the joint total variation is at most 1/2 sqrt((1 + epsilon^2)^N - 1)
(`ops.total_variation.joint_tv_bound_of_ratios`). Solved for epsilon, that is the rule `per_sqrt_agents`:

    epsilon = sqrt((1 + 4 alpha^2)^(1/N) - 1)          about 2 alpha / sqrt(N) for small alpha

No rule holds anything by itself: clipping keeps no ratio inside its range (see `restraints.py`).
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


Scale = Annotated[Any, pydantic.AfterValidator(_as_rule)]  # a rule, or a number, which stands for `fixed`
ClipRange = Annotated[Any, pydantic.AfterValidator(lambda given: None if given is None else _as_rule(given))]


@maker("clip_range")
def fixed(epsilon: pydantic.PositiveFloat) -> ClipRule:
    """Returns a rule that gives the same epsilon always.

    Args:
        epsilon: half-width of the clip range, dimensionless.
    """
    return _as_rule(epsilon)


@maker("clip_range")
def per_agent(alpha: pydantic.PositiveFloat) -> ClipRule:
    """Returns a rule that gives alpha / N, for a team of N agents (Theorem 3 of the paper).

    Args:
        alpha: bound on the sum over agents of `|ratio_k - 1|`, dimensionless.
    """
    return lambda alive, progress: tf.constant(alpha / alive.shape[-1], tf.float32)


@maker("clip_range")
def per_living_agent(alpha: pydantic.PositiveFloat) -> ClipRule:
    """Returns a rule that gives alpha over the number of living agents at each state, because dead agents cannot act.

    Args:
        alpha: bound on the sum over living agents of `|ratio_k - 1|`, dimensionless.
    """

    def epsilon(alive: tf.Tensor, progress: tf.Tensor) -> tf.Tensor:
        living = tf.reduce_sum(tf.cast(alive, tf.float32), axis=-1, keepdims=True)
        return alpha / tf.maximum(living, 1.0)

    return epsilon


@maker("clip_range")
def per_sqrt_agents(alpha: pydantic.PositiveFloat) -> ClipRule:
    """Returns a rule that gives the epsilon at which ratios in range bound the joint total variation by alpha.

        epsilon = sqrt((1 + 4 alpha^2)^(1/N) - 1)

    Args:
        alpha: bound on the joint policy's total variation, of a team of N agents.
    """
    return lambda alive, progress: _epsilon_of_joint_tv(alpha, float(alive.shape[-1]))


@maker("clip_range")
def per_sqrt_living_agents(alpha: pydantic.PositiveFloat) -> ClipRule:
    """Returns the rule `per_sqrt_agents` with the number of living agents at each state instead of N.

    Args:
        alpha: bound on the joint policy's total variation.
    """

    def epsilon(alive: tf.Tensor, progress: tf.Tensor) -> tf.Tensor:
        living = tf.reduce_sum(tf.cast(alive, tf.float32), axis=-1, keepdims=True)
        return _epsilon_of_joint_tv(alpha, tf.maximum(living, 1.0))

    return epsilon


def _epsilon_of_joint_tv(alpha: float, num_agents: float | tf.Tensor) -> tf.Tensor:
    """Returns sqrt((1 + 4 alpha^2)^(1/N) - 1), without cancellation, shaped like `num_agents`."""
    return tf.sqrt(tf.math.expm1(math.log1p(4.0 * alpha**2) / num_agents))


@maker("clip_range")
def linear(rule: Scale, final: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.0) -> ClipRule:
    """Returns a rule that scales another rule's epsilon, linearly from 1 down to `final` over the training.

    Args:
        rule: a rule, or a number, which stands for `fixed`.
        final: factor at the end of training, in [0, 1].
    """
    return lambda alive, progress: rule(alive, progress) * (1.0 - (1.0 - final) * progress)
