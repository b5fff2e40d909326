"""How far an update moved the policy, and what the paper's Theorem 2 promises for that: measured, not assumed.

`trust_region` and `certificate` are cheap, compile, and are recorded of every update; `Full.distribution` is the whole
story, epoch by epoch, and asked for by `diagnostics.full_every`. All of it is about the states of one rollout: a bound
that holds at each of them says nothing of states that were not visited.

Shapes: B environments, T steps, N agents, A actions; K is N, or 1 where the ratio and the advantage are the team's.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import gin
import numpy as np
import pydantic
import tensorflow as tf
import tensorflow_probability as tfp

from tf_marl.config import Count, checked
from tf_marl.ops import categorical, masked, surrogate, total_variation

Metrics = dict[str, tf.Tensor]

_WORST_STATES = 32  # where the joint total variation is estimated at every update
_WORST_SAMPLES = 2048  # at each of them: a standard error of 0.011 at most
_PERCENTILES = np.arange(101, dtype=np.float64)


class PolicyChange(NamedTuple):
    """A policy before and after an update, on the rollout it learned from."""

    old_logits: tf.Tensor  # [B, T, N, A], masked; of the policy that collected it
    new_logits: tf.Tensor  # [B, T, N, A], masked
    action: tf.Tensor  # [B, T, N] int32, as taken
    learns: tf.Tensor  # [B, T, N] bool: decisions of living agents outside episode boundaries
    epsilon: tf.Tensor | None  # half-width of the clip range, [] or [B, T, 1]; None if nothing is clipped
    ratio: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = surrogate.independent_ratio  # the one that training clipped

    def teams(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Old and new logits, the new ones only where somebody learned: nothing else counts as a change."""
        return self.old_logits, tf.where(self.learns[..., None], self.new_logits, self.old_logits)

    def states(self) -> tf.Tensor:
        """[B, T] bool: where anybody decides."""
        return tf.reduce_any(self.learns, axis=-1)

    def ratios(self) -> tuple[tf.Tensor, tf.Tensor]:
        """[B, T, K], 1 where it does not count, and [B, T, K] bool where it does."""
        old, new = (categorical.agent_distribution(categorical.team_distribution(team)) for team in self.teams())
        ratio = self.ratio(new.log_prob(self.action), old.log_prob(self.action))
        if len(ratio.shape) == len(self.learns.shape):
            return ratio, self.learns
        return ratio[..., None], self.states()[..., None]  # the team's


def trust_region(change: PolicyChange, seed: tf.Tensor) -> Metrics:
    """Sizes of a policy change, as scalars.

    Args:
        change: of one update.
        seed: [2] int32, of the Monte Carlo estimate.
    Returns:
        Each with the prefix `trust_region/`:
        `ratio_min`, `ratio_max`, `ratio_mean`: of the ratio that was clipped; `clip_fraction`: share of those outside
        [1 - epsilon, 1 + epsilon]; `epsilon`: mean over states; `ratio_deviation_sum`: sum_k max |ratio_k - 1|, which
        Theorem 3 wants below alpha; `clip_alpha`: what the clip range would make of it, the largest sum of epsilon over
        a state's living agents; `alpha`: the same, unless a rule that enforces one records its own; `kl_mean`:
        KL(old || new) of an agent, nats; `agent_tv_max`, `agent_tv_mean`: total variation of an agent;
        `joint_tv_sum_max`, `joint_tv_sum_mean`, `joint_tv_product_max`, `joint_tv_product_mean`: over states, of upper
        bounds on the joint policy's; `joint_tv_max`: its largest Monte Carlo estimate (standard error at most 0.011)
        among the 32 states where the product bound is largest. Without clipping there is no `epsilon`, `clip_alpha` or
        `alpha`.
    """
    states, learns, mean = change.states(), change.learns, masked.mean
    old_logits, new_logits = change.teams()
    tv = total_variation.agent_tv(old_logits, new_logits)
    tv_sum, tv_product = tf.reduce_sum(tv, axis=-1), total_variation.product_bound(tv)
    ratios = ratio_sizes(change)
    metrics = ratios | ({"alpha": ratios["clip_alpha"]} if "clip_alpha" in ratios else {})
    metrics |= {
        "agent_tv_max": tf.reduce_max(tv),
        "agent_tv_mean": mean(tv, learns),
        "joint_tv_sum_max": tf.reduce_max(tv_sum),
        "joint_tv_sum_mean": mean(tv_sum, states),
        "joint_tv_product_max": tf.reduce_max(tv_product),
        "joint_tv_product_mean": mean(tv_product, states),
        "joint_tv_max": _joint_tv_at_worst(old_logits, new_logits, tv_product, seed),
    }
    return {f"trust_region/{name}": value for name, value in metrics.items()}


def ratio_sizes(change: PolicyChange) -> Metrics:
    """What `trust_region` tells of the ratios, their clip range and the KL divergence, without prefix."""
    old, new = (categorical.agent_distribution(categorical.team_distribution(team)) for team in change.teams())
    ratio, counts = change.ratios()
    deviation = tf.abs(ratio - 1.0)
    sizes = {
        "ratio_min": tf.reduce_min(ratio),
        "ratio_max": tf.reduce_max(ratio),
        "ratio_mean": masked.mean(ratio, counts),
        "clip_fraction": tf.constant(0.0),
        "ratio_deviation_sum": tf.reduce_sum(tf.reduce_max(deviation, axis=[0, 1])),
        "kl_mean": masked.mean(old.kl_divergence(new), change.learns),
    }
    if change.epsilon is None:
        return sizes
    states = change.states()
    epsilon = tf.broadcast_to(change.epsilon, [*states.shape, 1])
    living = tf.reduce_sum(tf.cast(counts, tf.float32), axis=-1, keepdims=True)
    return sizes | {
        "clip_fraction": masked.mean(tf.cast(deviation > epsilon, tf.float32), counts),
        "epsilon": masked.mean(epsilon[..., 0], states),
        "clip_alpha": tf.reduce_max(epsilon * living),
    }


def _joint_tv_at_worst(old: tf.Tensor, new: tf.Tensor, bound: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    num_states = min(_WORST_STATES, bound.shape.num_elements())
    _, worst = tf.math.top_k(tf.reshape(bound, [-1]), num_states)
    old, new = (tf.gather(tf.reshape(team, [-1, *team.shape[2:]]), worst) for team in (old, new))
    estimate, _ = total_variation.joint_tv_monte_carlo(old, new, _WORST_SAMPLES, seed)
    return tf.reduce_max(estimate)


def certificate(change: PolicyChange, advantage: tf.Tensor, gamma: float, sizes: Metrics) -> Metrics:
    """The lower bound on an update's improvement by the paper's Theorem 2, from what one rollout shows.

        improvement >= surrogate - penalty,   penalty = 4 max|A| gamma / (1 - gamma)^2 alpha^2

    The surrogate is read in two ways, alpha is the largest total variation of the joint policy:

        surrogate        sum_k E[(ratio_k - 1) A_k] / (1 - gamma)         what IPPO and MAPPO optimise, unclipped
        joint_surrogate  E[(prod_k ratio_k - 1) A] / (1 - gamma)          unbiased for the joint policy's, if A is

    In exact Dec-MDPs (`launch.theory`) the bound holds with the second, and with the first only where one agent alone
    changes. Both take the rollout's states, not discounted ones, as PPO does, which the bound does not survive there,
    and estimated advantages (A is the mean of the living agents'): this is the theorem's arithmetic on measured
    quantities, no proof. Where the penalty is the larger one, the bound is vacuous: it allows for a loss.

    Args:
        change: of one update.
        advantage: [B, T, K], in units of reward, not normalised.
        gamma: discount per env step, below 1.
        sizes: what `trust_region` makes of it.
    Returns:
        Scalars with the prefix `certificate/`: `surrogate`, `advantage_max`, `alpha`, `penalty`, `lower_bound` with the
        measured joint total variation; `vacuous`, 1 where that bound is not above 0; `alpha_needed`, below which it
        would be; `joint_surrogate` and `joint_lower_bound`, which is that less the same penalty; and other readings of
        alpha: `lower_bound_product` and `lower_bound_sum`, with the bounds on the joint total variation in its place,
        and `lower_bound_clip`, with what it could be at most had all ratios stayed in the clip range: then
        TV_k <= epsilon / 2, which is half of what Theorem 3 counts on (none without clipping).
    """
    ratio, counts = change.ratios()
    gain = tf.where(counts, (ratio - 1.0) * advantage, 0.0)
    surrogate_sum = masked.mean(tf.reduce_sum(gain, axis=-1), change.states()) / (1.0 - gamma)
    joint_gain = (tf.reduce_prod(ratio, axis=-1) - 1.0) * masked.mean(advantage, counts, axis=-1)
    joint_surrogate = masked.mean(joint_gain, change.states()) / (1.0 - gamma)
    advantage_max = tf.reduce_max(tf.where(counts, tf.abs(advantage), 0.0))
    per_alpha_squared = 4.0 * advantage_max * gamma / (1.0 - gamma) ** 2

    def lower_bound(alpha: tf.Tensor) -> tf.Tensor:
        return surrogate_sum - per_alpha_squared * tf.square(alpha)

    alpha = sizes["trust_region/joint_tv_max"]
    penalty = per_alpha_squared * tf.square(alpha)
    metrics = {
        "surrogate": surrogate_sum,
        "advantage_max": advantage_max,
        "alpha": alpha,
        "penalty": penalty,
        "lower_bound": lower_bound(alpha),
        "joint_surrogate": joint_surrogate,
        "joint_lower_bound": joint_surrogate - penalty,
        "vacuous": tf.cast(~(lower_bound(alpha) > 0.0), tf.float32),
        "alpha_needed": tf.sqrt(tf.math.divide_no_nan(tf.maximum(surrogate_sum, 0.0), per_alpha_squared)),
        "lower_bound_product": lower_bound(sizes["trust_region/joint_tv_product_max"]),
        "lower_bound_sum": lower_bound(sizes["trust_region/joint_tv_sum_max"]),
    }
    if change.epsilon is not None:
        living = tf.reduce_sum(tf.cast(counts, tf.float32), axis=-1, keepdims=True)
        clip = tf.reduce_max(1.0 - (1.0 - tf.minimum(change.epsilon / 2.0, 1.0)) ** living)
        metrics["lower_bound_clip"] = lower_bound(clip)
    return {f"certificate/{name}": value for name, value in metrics.items()}


@gin.configurable("diagnostics")
class Full:
    """What is measured of an update beyond that, before each of its epochs and after the last, now and then.

    Args:
        full_every: updates from one that is measured in full to the next, from the first on; 0 is never.
        max_joint_actions: up to which the joint total variation is exact, at each state; see `joint_tv`.
        num_samples: of the Monte Carlo estimates at other states.
        max_states: on how many of the states, evenly spread, the joint total variation is measured; 0 is on all.
    """

    @checked("diagnostics")
    def __init__(
        self,
        full_every: pydantic.NonNegativeInt = 0,
        max_joint_actions: Count = 2**22,
        num_samples: Annotated[int, pydantic.Field(ge=2)] = 256,
        max_states: pydantic.NonNegativeInt = 0,
    ):
        self._every = full_every
        self._max_joint_actions = max_joint_actions
        self._num_samples = num_samples
        self._max_states = max_states

    def due(self, update: int) -> bool:
        """Whether an update is measured in full. Args: update, counted from 0."""
        return bool(self._every) and update % self._every == 0

    def distribution(self, change: PolicyChange, seed: tf.Tensor) -> Metrics:
        """The distributions over states; not for XLA.

        Args:
            change: up to one epoch.
            seed: [2] int32, of Monte Carlo estimates.
        Returns:
            `exact`, the share of states where the joint total variation is exact, and [101] each, the percentiles 0 to
            100: of `agent_tv`, over decisions, and of `joint_tv_sum`, `joint_tv_product`, `joint_tv_lower` and
            `joint_tv`, over states.
        """
        states = change.states()
        states |= ~tf.reduce_any(states)  # where nobody decides at any, all of them: nothing changed
        old, new = (tf.boolean_mask(team, states) for team in change.teams())
        learns = tf.boolean_mask(change.learns, states)
        learns |= ~tf.reduce_any(learns)
        tv = total_variation.agent_tv(old, new)
        num_states = tf.shape(old)[0]
        some = tf.range(0, num_states, -(-num_states // self._max_states) if self._max_states else 1)
        joint = total_variation.joint_tv(
            tf.gather(old, some), tf.gather(new, some), self._max_joint_actions, self._num_samples, seed
        )
        distributions = {
            "agent_tv": tf.boolean_mask(tv, learns),
            "joint_tv_sum": tf.reduce_sum(tv, axis=-1),
            "joint_tv_product": total_variation.product_bound(tv),
            "joint_tv_lower": tf.reduce_max(tv, axis=-1),
            "joint_tv": joint.value,
        }
        percentiles = {
            name: tf.cast(tfp.stats.percentile(values, _PERCENTILES, interpolation="nearest"), tf.float32)
            for name, values in distributions.items()
        }
        return {"exact": tf.reduce_mean(tf.cast(joint.exact, tf.float32))} | percentiles
