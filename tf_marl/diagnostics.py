"""Diagnostics measure how far an update moved the policy, and what Theorem 2 of the paper guarantees for that.

`trust_region` and `certificate` are cheap and compile, and they are recorded for every update. `Full.distribution`
gives distributions over states, epoch by epoch, for the updates that `diagnostics.full_every` selects. Everything is
measured on the states of one rollout: a bound that holds at each of them says nothing about states that were not
visited.

"The paper" is "Monotonic Improvement Guarantees under Non-stationarity for Decentralized PPO". TV is total variation.
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

_WORST_STATES = 32  # number of states where every update's joint total variation is estimated
_WORST_SAMPLES = 2048  # joint actions at each of them, so that the standard error is at most 0.011
_PERCENTILES = np.arange(101, dtype=np.float64)


class PolicyChange(NamedTuple):
    """Holds a policy before and after an update, on the rollout that it learned from."""

    old_logits: tf.Tensor  # [B, T, N, A], masked; of the policy that collected it
    new_logits: tf.Tensor  # [B, T, N, A], masked
    action: tf.Tensor  # [B, T, N] int32, as taken
    learns: tf.Tensor  # [B, T, N] bool: the decisions that count, outside episode boundaries
    epsilon: tf.Tensor | None  # half-width of the clip range, [] or [B, T, 1]; None if nothing is clipped
    ratio: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = surrogate.independent_ratio  # the ratio that training clips

    def teams(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the old and the new logits, [B, T, N, A] each.

        Where an agent's decision does not count, the new logits are the old ones, so nothing but what counts shows as a
        change.
        """
        return self.old_logits, tf.where(self.learns[..., None], self.new_logits, self.old_logits)

    def states(self) -> tf.Tensor:
        """Returns where any agent's decision counts, [B, T] bool."""
        return tf.reduce_any(self.learns, axis=-1)

    def ratios(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the ratios, [B, T, K], and where they count, [B, T, K] bool; a ratio that does not count is 1."""
        old, new = (categorical.agent_distribution(categorical.team_distribution(team)) for team in self.teams())
        ratio = self.ratio(new.log_prob(self.action), old.log_prob(self.action))
        if len(ratio.shape) == len(self.learns.shape):
            return ratio, self.learns
        return ratio[..., None], self.states()[..., None]  # the team's


def trust_region(change: PolicyChange, seed: tf.Tensor) -> Metrics:
    """Computes the size of a policy change, as scalars.

    Args:
        change: old and new policy of one update, with logits [B, T, N, A].
        seed: [2] int32, for the Monte Carlo estimate.
    Returns:
        Scalars, each with the prefix `trust_region/`.

        - `ratio_min`, `ratio_max`, `ratio_mean`: of the ratios that training clips.
        - `ratio_deviation_sum`: the sum over agents of each one's largest `|ratio_k - 1|`, which Theorem 3 of the paper
          assumes to be at most alpha.
        - `clip_fraction`: share of the ratios that are outside [1 - epsilon, 1 + epsilon]; 0 without clipping.
        - `epsilon`: half-width of the clip range, the mean over states; only with clipping.
        - `clip_alpha`: the alpha that the clip range stands for, the largest sum of epsilon over the living agents of a
          state; only with clipping.
        - `alpha`: equal to `clip_alpha`; only with clipping. The agent replaces it by the bound of its restraints, if
          it has any.
        - `kl_mean`: `KL(old || new)` of an agent's policy, in nats, the mean over decisions.
        - `agent_tv_max`, `agent_tv_mean`: TV of an agent's policy, over decisions.
        - `joint_tv_sum_max`, `joint_tv_sum_mean`: the bound sum_k TV_k on the joint policy's TV, over states.
        - `joint_tv_product_max`, `joint_tv_product_mean`: the bound 1 - prod_k (1 - TV_k) on the joint policy's TV,
          over states.
        - `joint_tv_max`: the joint policy's TV, the largest Monte Carlo estimate (standard error at most 0.011) among
          the 32 states where the product bound is largest.
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
    """Computes the scalars about ratios, clip range and KL divergence that `trust_region` returns, without its prefix.

    Args:
        change: old and new policy, with logits [B, T, N, A].
    Returns:
        Scalars `ratio_min`, `ratio_max`, `ratio_mean`, `clip_fraction`, `ratio_deviation_sum` and `kl_mean` (nats);
        with clipping also `epsilon` and `clip_alpha`.
    """
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
    """Returns the largest estimate of the joint policy's TV among the states where `bound` [B, T] is largest."""
    num_states = min(_WORST_STATES, bound.shape.num_elements())
    _, worst = tf.math.top_k(tf.reshape(bound, [-1]), num_states)
    old, new = (tf.gather(tf.reshape(team, [-1, *team.shape[2:]]), worst) for team in (old, new))
    estimate, _ = total_variation.joint_tv_monte_carlo(old, new, _WORST_SAMPLES, seed)
    return tf.reduce_max(estimate)


def certificate(change: PolicyChange, advantage: tf.Tensor, gamma: float, sizes: Metrics) -> Metrics:
    """Computes the lower bound on an update's improvement by Theorem 2 of the paper, from the data of one rollout.

        improvement >= surrogate - penalty,   penalty = 4 max|A| gamma / (1 - gamma)^2 alpha^2

    alpha is the largest TV of the joint policy at any state. There are two readings of the surrogate:

        surrogate        sum_k E[(ratio_k - 1) A_k] / (1 - gamma)         what IPPO and MAPPO optimise, unclipped
        joint_surrogate  E[(prod_k ratio_k - 1) A] / (1 - gamma)          A is the mean of the living agents' advantages

    The second is an unbiased estimate for the joint policy if A is unbiased. In exact Dec-MDPs (`launch.theory`) the
    bound holds with the second, and with the first only where a single agent changes its policy.

    The result is the theorem's arithmetic on measured quantities and proves nothing. Both readings use the rollout's
    states undiscounted, as PPO does, and with such states the bound fails even in exact Dec-MDPs; they also use
    estimated advantages. If the surrogate does not exceed the penalty, the bound is vacuous: it is compatible with a
    lower return than before.

    Args:
        change: old and new policy of one update, with logits [B, T, N, A].
        advantage: [B, T, K], in units of reward, not normalised.
        gamma: discount factor per env step, below 1.
        sizes: what `trust_region` returns for the same change.
    Returns:
        Scalars, each with the prefix `certificate/`.

        - `surrogate`, `joint_surrogate`: the two surrogates.
        - `advantage_max`: the largest absolute advantage.
        - `alpha`: the measured joint TV, `trust_region/joint_tv_max`.
        - `penalty`: the penalty at that alpha.
        - `lower_bound`, `joint_lower_bound`: surrogate and joint surrogate, each minus the penalty.
        - `vacuous`: 1 if `lower_bound` is not above 0, else 0.
        - `alpha_needed`: the alpha below which `lower_bound` would be above 0.
        - `lower_bound_product`, `lower_bound_sum`: the lower bound with the product or sum bound on the joint TV as
          alpha.
        - `lower_bound_clip`: the lower bound with the largest alpha that is possible if all ratios stay in the clip
          range; only with clipping. Then TV_k is at most epsilon / 2, half of what Theorem 3 of the paper assumes.
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
    """Measures some updates in detail, before each epoch and after the last.

    Args:
        full_every: measures every so many updates, starting with the first; 0 measures none.
        max_joint_actions: the joint TV is exact at states where the old policy takes at most this many joint actions,
            and a Monte Carlo estimate at the others.
        num_samples: joint actions sampled for each Monte Carlo estimate.
        max_states: the joint TV is measured at no more than this many states, evenly spread; 0 measures all.
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
        """Returns whether an update is measured in detail.

        Args:
            update: index of the update, from 0.
        """
        return bool(self._every) and update % self._every == 0

    def distribution(self, change: PolicyChange, seed: tf.Tensor) -> Metrics:
        """Computes the distributions of TV over the states of a rollout; XLA cannot compile it.

        Args:
            change: old policy and the policy so far, with logits [B, T, N, A].
            seed: [2] int32, for the Monte Carlo estimates.
        Returns:
            `exact`, a scalar, and five arrays of percentiles 0 to 100, [101] each.

            - `exact`: share of the measured states where the joint TV is exact.
            - `agent_tv`: TV of each agent's policy, over decisions.
            - `joint_tv_sum`, `joint_tv_product`: upper bounds on the joint TV, over states.
            - `joint_tv_lower`: the lower bound max_k TV_k on the joint TV, over states.
            - `joint_tv`: the joint TV, over at most `max_states` states.
        """
        states = change.states()
        states |= ~tf.reduce_any(states)  # all states if no decision counts at any, which shows that nothing changed
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
