"""The step of TRPO goes along the natural gradient, as far as a limit on the change of the policy allows.

    maximise L(theta) = E[r A]   subject to   D(theta_old, theta) <= limit                 Schulman et al. 2015

L is the surrogate without clipping, with the agents' own ratios or the joint one. With g its gradient and F the Fisher
matrix, the Hessian of the KL divergence, the step is

    x = (F + damping)^-1 g,   theta = theta_old + share sqrt(2 kl / x'(F + damping) x) x

by conjugate gradients and products F v = grad((grad KL)'v), so F is never formed. `kl` is the KL divergence that the
limit allows for. The line search shortens the step, `share`, until the limit holds and L has grown by enough of what
its gradient promised; else the policy stays as it was. The limits:

    mean_kl             mean over decisions of an agent's KL divergence           TRPO, PS-TRPO, HATRPO
    mean_joint_kl       mean over states of the joint policy's, sum_k KL_k        the same with a budget for the team
    largest_joint_tv    the largest joint total variation at any state            equations 1, 5 and 8 of the paper

"The paper" is "Monotonic Improvement Guarantees under Non-stationarity for Decentralized PPO". A limit holds at the
states of the rollout and for the decisions that count.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol

import pydantic
import tensorflow as tf

from tf_marl.agents.ppo.batch import Batch, shares
from tf_marl.agents.ppo.losses import Losses
from tf_marl.agents.ppo.restraints import QUANTITIES, Quantity
from tf_marl.agents.ppo.step import Maker
from tf_marl.compile import graph
from tf_marl.compile import shards as cores
from tf_marl.config import STRICT, Count, maker
from tf_marl.networks import Actor, training_flops
from tf_marl.ops import categorical
from tf_marl.ops.conjugate_gradients import conjugate_gradients


class Limit(Protocol):
    """Describes a measure of how far the policy has moved, and its largest value.

    To first order the measure grows with the length of the step to the power `order`.
    """

    order: int

    @property
    def largest(self) -> float:
        """Returns the largest value that is allowed."""

    @property
    def kl(self) -> float:
        """Returns the KL divergence, weighted by `shares`, with which the line search begins (nats)."""

    def shares(self, learns: tf.Tensor) -> tf.Tensor:
        """Returns the weights of the agents' KL divergences, [S, L, N], for decisions that count, [S, L, N] bool."""

    def measure(self, old: tf.Tensor, new: tf.Tensor, learns: tf.Tensor) -> tf.Tensor:
        """Returns the measure, a scalar, from old and new logits, [S, L, N, A], of decisions that count, [S, L, N]."""


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class MeanKL:
    """Limits the mean KL divergence, KL(old || new), of agents or of the joint policy."""

    delta: pydantic.PositiveFloat  # nats
    joint: bool = False
    order = 2

    @property
    def largest(self) -> float:
        """Returns delta."""
        return self.delta

    @property
    def kl(self) -> float:
        """Returns delta."""
        return self.delta

    def shares(self, learns: tf.Tensor) -> tf.Tensor:
        """Returns 1 over the number of decisions that count, or of states with such; 0 for decisions that do not.

        Args:
            learns: [S, L, N] bool.
        Returns:
            Weights, [S, L, N].
        """
        if not self.joint:
            return shares(learns)
        states = tf.reduce_sum(tf.cast(tf.reduce_any(learns, axis=-1), tf.float32))
        return tf.math.divide_no_nan(tf.cast(learns, tf.float32), states)

    def measure(self, old: tf.Tensor, new: tf.Tensor, learns: tf.Tensor) -> tf.Tensor:
        """Computes the mean KL divergence.

        Args:
            old: masked logits before the step, [S, L, N, A].
            new: masked logits after it, [S, L, N, A].
            learns: [S, L, N] bool, the decisions that count.
        Returns:
            A scalar, in nats.
        """
        return _weighted_kl(old, new, self.shares(learns))


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class LargestJointTV:
    """Limits the total variation of the joint policy at every state, measured as restraints measure it."""

    alpha: Annotated[float, pydantic.Field(gt=0, le=1)]
    quantity: Quantity = "hellinger_bound"
    order = 1

    @property
    def largest(self) -> float:
        """Returns alpha."""
        return self.alpha

    @property
    def kl(self) -> float:
        """Returns the mean KL divergence of the joint policy at which Pinsker's bound is alpha at every state."""
        return 2.0 * self.alpha**2

    def shares(self, learns: tf.Tensor) -> tf.Tensor:
        """Returns 1 over the number of states where a decision counts; 0 for decisions that do not.

        Args:
            learns: [S, L, N] bool.
        Returns:
            Weights, [S, L, N].
        """
        return MeanKL(self.kl, joint=True).shares(learns)

    def measure(self, old: tf.Tensor, new: tf.Tensor, learns: tf.Tensor) -> tf.Tensor:
        """Computes the largest total variation, or the bound on it, over states.

        Args:
            old: masked logits before the step, [S, L, N, A].
            new: masked logits after it, [S, L, N, A].
            learns: [S, L, N] bool, the decisions that count.
        Returns:
            A scalar.
        """
        return tf.reduce_max(QUANTITIES[self.quantity](old, tf.where(learns[..., None], new, old)))


@maker("limits")
def mean_kl(delta: pydantic.PositiveFloat) -> Limit:
    """Makes a limit on the mean over decisions of an agent's KL divergence.

    The joint policy's is their sum, so it is at most delta times the number of agents.

    Args:
        delta: in nats.
    """
    return MeanKL(delta)


@maker("limits")
def mean_joint_kl(delta: pydantic.PositiveFloat) -> Limit:
    """Makes a limit on the mean over states of the joint policy's KL divergence, the sum of the agents'.

    Args:
        delta: in nats.
    """
    return MeanKL(delta, joint=True)


@maker("limits")
def largest_joint_tv(
    alpha: Annotated[float, pydantic.Field(gt=0, le=1)], quantity: Quantity = "hellinger_bound"
) -> Limit:
    """Makes a limit on the total variation of the joint policy at every state of the rollout.

    Args:
        alpha: the largest total variation.
        quantity: what is held: `joint_tv` itself, or an upper bound on it: `hellinger_bound`, `upper_bound`,
            `product_bound` or `sum_bound`.
    """
    return LargestJointTV(alpha, quantity)


def _limit(given: Any) -> Any:
    if given is None or isinstance(given, MeanKL | LargestJointTV):
        return given
    raise ValueError("should be a limit such as @mean_kl()")


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class StepRules:
    """Holds how a natural gradient step is computed."""

    limit: Annotated[Any, pydantic.AfterValidator(_limit)] = None  # None: the algorithm's own
    num_products: Count = 10  # of conjugate gradients, at most
    damping: pydantic.NonNegativeFloat = 0.1  # added to the Fisher matrix' diagonal
    # Least growth of the surrogate, as a share of what its gradient promises for the step.
    least_improvement: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.1
    shrink: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.8  # of the step, at least, at each try of the line search
    num_tries: Count = 15  # of the line search


class NaturalGradient(tf.Module):
    """Takes one step along the natural gradient of the surrogate.

    It learns from the whole batch at once and records

    - `loss/policy`, minus the surrogate after the step; `loss/entropy` before it (nats); `grad_norm/actor`;
    - `trust_region/step_measure`, the limit's measure of the step, and `trust_region/step_gain`, what the surrogate
      gained, as a share of what its gradient promised; both are 0 for a step that was not taken;
    - `trust_region/line_search_share`, the share of the first step that was taken, and
      `trust_region/line_search_tries`.

    Args:
        actor: the network that it moves.
        losses: of this actor, without clipping.
        rules: how the step is computed; its limit is set.
        jit_compile: whether XLA compiles the gradients, in one program per CPU core.
    """

    moves_actor, moves_critic = True, False
    num_rounds, num_minibatches = 1, 1
    names = (
        "loss/policy",
        "loss/entropy",
        "grad_norm/actor",
        "trust_region/step_measure",
        "trust_region/step_gain",
        "trust_region/line_search_share",
        "trust_region/line_search_tries",
    )
    optimizer_variables: Sequence[tf.Variable] = ()

    def __init__(self, actor: Actor, losses: Losses, rules: StepRules, jit_compile: bool):
        super().__init__("natural_gradient")
        self._actor, self._losses, self._rules = actor, losses, rules
        self._limit: Limit = rules.limit
        self._moved = actor.trainable_variables
        self._on_rows = cores.on_rows if jit_compile else lambda function, *rows: function(*rows)
        self._on_shards = cores.side_by_side if jit_compile else lambda function, *rows: [function(*rows)]
        compiled = graph.function(jit_compile=jit_compile)
        self._logits, self._gradient = compiled(losses.logits), compiled(self._gradient_of_shard)
        self._product = compiled(self._product_of_shard)

    def flops(self) -> int:
        """Returns the floating-point operations of a step's matrix products, per row if all its decisions count.

        A product with the Fisher matrix counts as two passes forward and backward; the line search is left out.
        """
        return (1 + 2 * self._rules.num_products) * training_flops(self._actor)

    @graph.converted
    def __call__(self, batch, seed, around, memories):
        rules, limit = self._rules, self._limit
        batch = around.prepare(batch)
        share, agent_share = self._losses.shares(batch)
        kl_share = limit.shares(batch.learns)
        before = [tf.identity(weight) for weight in self._moved]
        old = self._on_rows(self._logits, batch)
        old_gain = self._surrogate(old, batch, share, agent_share)
        gradient = self._summed(self._gradient, batch, share, agent_share)

        def damped(direction: tf.Tensor) -> tf.Tensor:
            product = functools.partial(self._product, direction)
            return self._summed(product, batch, old, kl_share) + rules.damping * direction

        direction = conjugate_gradients(damped, gradient, rules.num_products)
        curvature = tf.reduce_sum(direction * damped(direction))
        whole = tf.sqrt(tf.math.divide_no_nan(2.0 * limit.kl, curvature)) * direction
        promised = tf.reduce_sum(gradient * whole)

        part, tries, taken = tf.constant(1.0), tf.constant(0), tf.constant(False)
        gain, measure = tf.constant(0.0), tf.constant(0.0)
        while ~taken and tries < rules.num_tries:
            if tries > 0:
                nearer = 0.95 * (limit.largest / measure) ** (1.0 / limit.order)
                part *= tf.where(tf.math.is_finite(nearer), tf.clip_by_value(nearer, 0.1, rules.shrink), rules.shrink)
            tries += 1
            self._move(before, part * whole)
            new = self._on_rows(self._logits, batch)
            gain = self._surrogate(new, batch, share, agent_share) - old_gain
            measure = limit.measure(old, new, batch.learns)
            taken = (measure <= limit.largest) & (gain > 0.0) & (gain >= rules.least_improvement * part * promised)
        part = tf.where(taken, part, 0.0)
        if ~taken:
            self._move(before, tf.zeros_like(whole))
        rounds = tf.constant(1)
        memories, _ = around.after_round(rounds, memories)
        entropy = categorical.distribution(old).entropy()
        told = {
            "loss/policy": -(old_gain + tf.where(taken, gain, 0.0)),
            "loss/entropy": tf.reduce_sum(tf.where(batch.learns, entropy, 0.0) * agent_share),
            "grad_norm/actor": tf.norm(gradient),
            "trust_region/step_measure": tf.where(taken, measure, 0.0),
            "trust_region/step_gain": tf.where(taken, tf.math.divide_no_nan(gain, part * promised), 0.0),
            "trust_region/line_search_share": part,
            "trust_region/line_search_tries": tf.cast(tries, tf.float32),
        }
        return told, rounds, memories

    def _move(self, before: Sequence[tf.Tensor], step: tf.Tensor) -> None:
        """Sets the weights to those before plus a step, [P]."""
        sizes = [weight.shape.num_elements() for weight in before]
        for weight, old, part in zip(self._moved, before, tf.split(step, sizes), strict=True):
            weight.assign(old + tf.reshape(part, old.shape))

    def _surrogate(self, logits: tf.Tensor, batch: Batch, share: tf.Tensor, agent_share: tf.Tensor) -> tf.Tensor:
        """Returns the surrogate of a policy with these logits, [S, L, N, A], a scalar."""
        log_prob = categorical.distribution(logits).log_prob(batch.action)
        log_prob = tf.where(batch.learns, log_prob, batch.old_log_prob)  # else its logits may be missing
        gain, weight = self._losses.gains(log_prob, batch, share, agent_share)
        return tf.reduce_sum(tf.where(weight > 0.0, gain, 0.0) * weight)

    def _summed(self, function: Callable[..., tf.Tensor], *rows: Any) -> tf.Tensor:
        """Returns the sum over shards of a function of rows of the batch."""
        return tf.add_n(self._on_shards(function, *rows))

    def _gradient_of_shard(self, batch: Batch, share: tf.Tensor, agent_share: tf.Tensor) -> tf.Tensor:
        """Returns what some sequences contribute to the surrogate's gradient, [P]."""
        with tf.GradientTape() as tape:
            surrogate = self._surrogate(self._losses.logits(batch), batch, share, agent_share)
        return _flat(tape.gradient(surrogate, self._moved, unconnected_gradients="zero"))

    def _product_of_shard(self, direction: tf.Tensor, batch: Batch, old: tf.Tensor, kl_share: tf.Tensor) -> tf.Tensor:
        """Returns what some sequences contribute to the product of the Fisher matrix and a direction, [P]."""
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                kl = _weighted_kl(old, self._losses.logits(batch), kl_share)
            slope = _flat(inner.gradient(kl, self._moved, unconnected_gradients="zero"))
            along = tf.reduce_sum(slope * direction)
        return _flat(outer.gradient(along, self._moved, unconnected_gradients="zero"))


def natural_gradient(rules: StepRules) -> Maker:
    """Returns a maker of TRPO's step.

    Args:
        rules: how the step is computed; its limit is set.
    """
    return lambda agent, actor, losses: NaturalGradient(actor, losses, rules, agent.jit_compile)


def _flat(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], axis=0)


def _weighted_kl(old: tf.Tensor, new: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns the weighted sum of the agents' KL divergences, a scalar; logits are [S, L, N, A], weights [S, L, N]."""
    kl = categorical.distribution(tf.stop_gradient(old)).kl_divergence(categorical.distribution(new))
    return tf.reduce_sum(tf.where(weights > 0.0, kl, 0.0) * weights)
