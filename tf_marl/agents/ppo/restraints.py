"""Holding the trust region: hooks that keep an update's total variation at or below alpha, to be put together in gin.

    ppo.enforce = [@early_stop(), @backtrack()]
    early_stop.alpha = 0.3
    backtrack.alpha = 0.3
    backtrack.quantity = "joint_tv"

Clipping alone bounds nothing: a clipped ratio has no gradient of its own, but it moves with the weights it shares with
others. These measure instead. Each holds the largest value, over the states of the rollout, of its quantity:

    sum_bound       sum_k TV_k, the paper's Proposition 2
    product_bound   1 - prod_k (1 - TV_k): tighter, as cheap, and a bound all the same
    joint_tv        the joint policy's total variation itself: exact, but Monte Carlo at states with more than 2^22
                    joint actions, where it is held up to the estimate's standard error

They act in the order given: adapt_epsilon before backtrack, or it sees only what backtrack left.

Optimisers stay as they are after the steps they took: Adam's moments are averages of gradients, not of steps, and hold
for weights in between as well.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pydantic
import tensorflow as tf

from tf_marl.agents.ppo.hooks import Change, Hook
from tf_marl.compile import graph
from tf_marl.config import maker
from tf_marl.ops import total_variation

Quantity = Literal["sum_bound", "product_bound", "joint_tv"]

_QUANTITIES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "sum_bound": total_variation.joint_tv_sum_bound,
    "product_bound": total_variation.joint_tv_product_bound,
    "joint_tv": lambda old, new: total_variation.joint_tv(old, new).value,
}
_MAX_BACKTRACKS = 24  # then the update is taken back whole
_MAX_FACTOR = 1.5  # that epsilon changes by, from one update to the next
_SCALES = (0.01, 10.0)  # of epsilon, as a multiple of what the clip range's own rule says


class Restraint(Hook):
    """What all of them have; by itself it does nothing."""

    def __init__(self, alpha: float, quantity: Quantity):
        self.alpha, self.quantity = alpha, quantity

    def tv(self, change: Change) -> tf.Tensor:
        """Of the policy as it is now from the one that collected a rollout: the largest over its states, [].

        Infinite where the policy is not a number any more.
        """
        tv = tf.reduce_max(_QUANTITIES[self.quantity](*change().teams()))
        return tf.where(tf.math.is_nan(tv), math.inf, tv)


class EarlyStop(Restraint):
    def after_epoch(self, agent, change, epochs, memory):
        return memory, self.tv(change) > self.alpha


class Backtrack(Restraint):
    def begin(self, agent, change):
        return [tf.identity(weight) for weight in agent.actor_weights]

    @graph.converted
    def end(self, agent, change, epochs, memory):
        weights = agent.actor_weights
        after = [tf.identity(weight) for weight in weights]
        tv, share, tries = self.tv(change), tf.constant(1.0), tf.constant(0)
        while tv > self.alpha and share > 0.0:
            tries += 1
            share *= tf.clip_by_value(0.95 * self.alpha / tv, 0.1, 0.9)  # for small steps the two are proportional
            if tries == _MAX_BACKTRACKS or tf.math.is_inf(tv):
                share = tf.constant(0.0)
            for weight, old, new in zip(weights, memory, after, strict=True):
                weight.assign(tf.where(share > 0.0, old + share * (new - old), old))
            tv = self.tv(change)
        return memory, {"trust_region/step_share": share, "trust_region/backtracks": tf.cast(tries, tf.float32)}


class AdaptEpsilon(Restraint):
    def end(self, agent, change, epochs, memory):
        factor = tf.sqrt(self.alpha / tf.maximum(self.tv(change), 1e-6))
        scale = agent.epsilon_scale * tf.clip_by_value(factor, 1.0 / _MAX_FACTOR, _MAX_FACTOR)
        agent.epsilon_scale.assign(tf.clip_by_value(scale, *_SCALES))
        return memory, {"trust_region/epsilon_scale": tf.identity(agent.epsilon_scale)}


@maker("restraints")
def early_stop(alpha: pydantic.PositiveFloat, quantity: Quantity = "product_bound") -> Restraint:
    """Ends the epochs once the total variation is above alpha: by how much is left to chance, and one epoch's steps."""
    return EarlyStop(alpha, quantity)


@maker("restraints")
def backtrack(alpha: pydantic.PositiveFloat, quantity: Quantity = "product_bound") -> Restraint:
    """After the last epoch, goes back on the line to the old weights until the total variation is at most alpha.

    So the bound holds at every state of the rollout, whatever the epochs did. Records `trust_region/step_share`, of the
    way that is kept, and `trust_region/backtracks`, how often it was shortened.
    """
    return Backtrack(alpha, quantity)


@maker("restraints")
def adapt_epsilon(alpha: pydantic.PositiveFloat, quantity: Quantity = "product_bound") -> Restraint:
    """After every update, widens or narrows the clip range so that the next one's total variation comes near alpha.

    It scales what the clip range's own rule says, by sqrt(alpha / total variation) and at most 1.5 at a time, within
    0.01 to 10 of it. Records `trust_region/epsilon_scale`.
    """
    return AdaptEpsilon(alpha, quantity)


def _restraint(given: Any) -> Restraint:
    if isinstance(given, Restraint):
        return given
    raise ValueError("should hold restraints such as @backtrack()")


Restraints = Annotated[tuple[Annotated[Any, pydantic.AfterValidator(_restraint)], ...], pydantic.Field(strict=False)]
