"""Restraints are hooks that keep the total variation of an update at or below alpha; gin puts them together.

    ppo.enforce = [@early_stop(), @backtrack()]
    early_stop.alpha = 0.3
    backtrack.alpha = 0.3
    backtrack.quantity = "joint_tv"

Clipping alone bounds nothing: a clipped ratio has no gradient of its own, but it still moves because it shares weights
with other agents and states. Restraints measure how far the policy has moved instead. Each one restrains the largest
value, over the states of the rollout, of its `quantity`:

    sum_bound       sum_k TV_k, Proposition 2 of the paper
    product_bound   1 - prod_k (1 - TV_k): also an upper bound, tighter and as cheap
    hellinger_bound sqrt(1 - prod_k BC_k^2), as cheap, and tighter for many agents: it grows like sqrt(N)
    upper_bound     the smallest of the product bound, the Hellinger bound and Pinsker's at each state
    joint_tv        the total variation of the joint policy: exact at states with up to 2^22 joint actions, else a Monte
                    Carlo estimate, so there it is restrained up to the standard error of the estimate

They act in the order given. Put adapt_epsilon before backtrack, or it measures only what backtrack has left.

Optimisers keep the state they have after the steps they took, also where backtrack shortens the update. Adam's moments
are averages of gradients rather than of steps, so they fit the weights in between as well.
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

Quantity = Literal["sum_bound", "product_bound", "hellinger_bound", "upper_bound", "joint_tv"]

QUANTITIES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "sum_bound": total_variation.joint_tv_sum_bound,
    "product_bound": total_variation.joint_tv_product_bound,
    "hellinger_bound": lambda old, new: total_variation.joint_tv_hellinger_bounds(old, new).upper,
    "upper_bound": total_variation.joint_tv_upper_bound,
    "joint_tv": lambda old, new: total_variation.joint_tv(old, new).value,
}
_MAX_BACKTRACKS = 24  # after so many, the update is undone altogether
_MAX_FACTOR = 1.5  # by which epsilon's scale may change from one update to the next
_SCALES = (0.01, 10.0)  # smallest and largest scale of epsilon, a factor on the clip range's own rule


class Restraint(Hook):
    """Holds the bound alpha and the quantity it applies to; this base class restrains nothing.

    Args:
        alpha: bound on the total variation.
        quantity: `sum_bound`, `product_bound`, `hellinger_bound`, `upper_bound` or `joint_tv`.
    """

    def __init__(self, alpha: float, quantity: Quantity):
        self.alpha, self.quantity = alpha, quantity

    def tv(self, change: Change) -> tf.Tensor:
        """Computes the restrained quantity of the update so far, the largest over the states of the rollout.

        Args:
            change: function without arguments; returns the `PolicyChange` from the policy that collected the rollout to
                the present one.
        Returns:
            A scalar; infinity where the policy has become NaN.
        """
        tv = tf.reduce_max(QUANTITIES[self.quantity](*change().teams()))
        return tf.where(tf.math.is_nan(tv), math.inf, tv)


class EarlyStop(Restraint):
    """Ends the epochs of an update once the total variation is above alpha.

    Args:
        alpha: bound on the total variation.
        quantity: `sum_bound`, `product_bound`, `hellinger_bound`, `upper_bound` or `joint_tv`.
    """

    def after_epoch(self, agent, change, epochs, memory):
        return memory, self.tv(change) > self.alpha


class Backtrack(Restraint):
    """Moves the weights back towards the old ones after the last epoch, until the total variation is at most alpha.

    Args:
        alpha: bound on the total variation.
        quantity: `sum_bound`, `product_bound`, `hellinger_bound`, `upper_bound` or `joint_tv`.
    """

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
    """Scales the clip range after every update, so that the next one's total variation comes near alpha.

    Args:
        alpha: target for the total variation.
        quantity: `sum_bound`, `product_bound`, `hellinger_bound`, `upper_bound` or `joint_tv`.
    """

    def end(self, agent, change, epochs, memory):
        factor = tf.sqrt(self.alpha / tf.maximum(self.tv(change), 1e-6))
        scale = agent.epsilon_scale * tf.clip_by_value(factor, 1.0 / _MAX_FACTOR, _MAX_FACTOR)
        agent.epsilon_scale.assign(tf.clip_by_value(scale, *_SCALES))
        return memory, {"trust_region/epsilon_scale": tf.identity(agent.epsilon_scale)}


@maker("restraints")
def early_stop(alpha: pydantic.PositiveFloat, quantity: Quantity = "product_bound") -> Restraint:
    """Makes a restraint that ends the epochs once the total variation is above alpha.

    The epoch that crosses alpha is kept, so the update may end above alpha by up to the steps of one epoch.

    Args:
        alpha: bound on the total variation.
        quantity: `sum_bound`, `product_bound`, `hellinger_bound`, `upper_bound` or `joint_tv`.
    """
    return EarlyStop(alpha, quantity)


@maker("restraints")
def backtrack(alpha: pydantic.PositiveFloat, quantity: Quantity = "product_bound") -> Restraint:
    """Makes a restraint that moves the weights back towards the old ones until the total variation is at most alpha.

    It acts after the last epoch, on the straight line between the old and the new weights. So the bound holds at every
    state of the rollout, whatever the epochs did. It records `trust_region/step_share`, the share of the step that is
    kept, in [0, 1], and `trust_region/backtracks`, how often the step was shortened.

    Args:
        alpha: bound on the total variation.
        quantity: `sum_bound`, `product_bound`, `hellinger_bound`, `upper_bound` or `joint_tv`.
    """
    return Backtrack(alpha, quantity)


@maker("restraints")
def adapt_epsilon(alpha: pydantic.PositiveFloat, quantity: Quantity = "product_bound") -> Restraint:
    """Makes a restraint that adapts the clip range so that the next update's total variation comes near alpha.

    After every update it multiplies the clip range's scale by sqrt(alpha / total variation), at most by 1.5 and at
    least by 1 / 1.5. The scale multiplies the epsilon of the clip range's own rule and stays in [0.01, 10]. It is
    recorded as `trust_region/epsilon_scale`.

    Args:
        alpha: target for the total variation.
        quantity: `sum_bound`, `product_bound`, `hellinger_bound`, `upper_bound` or `joint_tv`.
    """
    return AdaptEpsilon(alpha, quantity)


def _restraint(given: Any) -> Restraint:
    if isinstance(given, Restraint):
        return given
    raise ValueError("should hold restraints such as @backtrack()")


Restraints = Annotated[tuple[Annotated[Any, pydantic.AfterValidator(_restraint)], ...], pydantic.Field(strict=False)]
