"""Diagnostics measure how far an update moved the policy, and what bounds on its improvement say about that.

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
from tf_marl.ops import categorical, masked, penalties, surrogate, total_variation

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

    def log_probs(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the new and the old log-probabilities of each agent's own action, [B, T, N] each."""
        old, new = (categorical.agent_distribution(categorical.team_distribution(team)) for team in self.teams())
        return new.log_prob(self.action), old.log_prob(self.action)

    def ratios(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the ratios, [B, T, K], and where they count, [B, T, K] bool; a ratio that does not count is 1."""
        ratio = self.ratio(*self.log_probs())
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
        - `clip_alpha`: the largest total variation of the joint policy that is possible at any state if all ratios stay
          in the clip range (`total_variation.joint_tv_bound_of_ratios`); only with clipping.
        - `alpha`: equal to `clip_alpha`; only with clipping. The agent replaces it by the bound of its restraints, if
          it has any.
        - `kl_mean`: `KL(old || new)` of an agent's policy, in nats, the mean over decisions.
        - `agent_tv_max`, `agent_tv_mean`: TV of an agent's policy, over decisions.
        - `joint_tv_sum_max`, `joint_tv_sum_mean`: the bound sum_k TV_k on the joint policy's TV, over states.
        - `joint_tv_product_max`, `joint_tv_product_mean`: the bound 1 - prod_k (1 - TV_k) on the joint policy's TV,
          over states.
        - `joint_tv_hellinger_max`, `joint_tv_hellinger_mean`: the bound sqrt(1 - prod_k BC_k^2) on the joint policy's
          TV, over states; `joint_tv_hellinger_lower_max`: the largest of its lower bounds 1 - prod_k BC_k.
        - `joint_tv_pinsker_max`, `joint_tv_pinsker_mean`: the bound sqrt(1/2 sum_k KL_k) on the joint policy's TV, over
          states.
        - `joint_tv_upper_max`: the smallest of these upper bounds at each state, the largest over states.
        - `joint_tv_max`: the joint policy's TV, the largest Monte Carlo estimate (standard error at most 0.011) among
          the 32 states where the product bound is largest.
    """
    states, mean = change.states(), masked.mean
    old, new = change.teams()
    tv = total_variation.agent_tv(old, new)
    hellinger = total_variation.joint_tv_hellinger_bounds(old, new)
    bounds = {
        "sum": tf.reduce_sum(tv, axis=-1),
        "product": total_variation.product_bound(tv),
        "hellinger": hellinger.upper,
        "pinsker": total_variation.joint_tv_pinsker_bound(old, new),
    }
    ratios = ratio_sizes(change)
    metrics = ratios | ({"alpha": ratios["clip_alpha"]} if "clip_alpha" in ratios else {})
    metrics |= {"agent_tv_max": tf.reduce_max(tv), "agent_tv_mean": mean(tv, change.learns)}
    for name, bound in bounds.items():
        metrics |= {f"joint_tv_{name}_max": tf.reduce_max(bound), f"joint_tv_{name}_mean": mean(bound, states)}
    metrics |= {
        "joint_tv_hellinger_lower_max": tf.reduce_max(hellinger.lower),
        "joint_tv_upper_max": tf.reduce_max(tf.reduce_min(tf.stack([*bounds.values()]), axis=0)),
        "joint_tv_max": _joint_tv_at_worst(old, new, bounds["product"], seed),
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
        "clip_alpha": tf.reduce_max(total_variation.joint_tv_bound_of_ratios(epsilon, living)),
    }


def _joint_tv_at_worst(old: tf.Tensor, new: tf.Tensor, bound: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns the largest estimate of the joint policy's TV among the states where `bound` [B, T] is largest."""
    num_states = min(_WORST_STATES, bound.shape.num_elements())
    _, worst = tf.math.top_k(tf.reshape(bound, [-1]), num_states)
    old, new = (tf.gather(tf.reshape(team, [-1, *team.shape[2:]]), worst) for team in (old, new))
    estimate, _ = total_variation.joint_tv_monte_carlo(old, new, _WORST_SAMPLES, seed)
    return tf.reduce_max(estimate)


def certificate(change: PolicyChange, advantage: tf.Tensor, gamma: float, sizes: Metrics) -> Metrics:
    """Computes lower bounds on how much an update improved the return, from the data of one rollout.

        improvement >= joint_surrogate - penalty,   penalty = 4 max|A| gamma / (1 - gamma)^2 alpha^2

    This is Theorem 2 of the paper for the joint policy: A is the advantage of joint actions and alpha the largest TV of
    the joint policy at any state. It holds in exact Dec-MDPs (`launch.theory`). There are three readings of the
    surrogate:

        joint_surrogate       E[(prod_k r_k - 1) A] / (1 - gamma)         A is the mean of the living agents' A_k
        sequential_surrogate  sum_k E[prod_{j < k} r_j (r_k - 1) A] / (1 - gamma)       the same, agent by agent
        surrogate             sum_k E[(r_k - 1) A_k] / (1 - gamma)        what IPPO and MAPPO optimise, unclipped

    With the last one the bound does not hold if two agents change together. For JR-PPO, whose only ratio is the team's,
    it is equal to the first.

    The numbers are estimates, so they prove nothing about the update at hand. States are counted undiscounted, as PPO
    does, and with such states the bound fails even in exact Dec-MDPs. Advantages are estimated too, and `advantage_max`
    is both too small, because it misses the states and joint actions that were not visited, and too large, because the
    noise of the estimates adds to it. `joint_tv_upper_max` is an upper bound for the visited states only.

    Args:
        change: old and new policy of one update, with logits [B, T, N, A].
        advantage: [B, T, K], in units of reward, not normalised.
        gamma: discount factor per env step, below 1.
        sizes: what `trust_region` returns for the same change.
    Returns:
        Scalars, each with the prefix `certificate/`.

        - `joint_surrogate`, `surrogate`: these two readings.
        - `sequential_surrogate`, `sequential_surrogate_min`: the sum of the agents' terms in their order, and the
          smallest term. If that is negative, an agent's change loses, given the changes of the agents before it.
        - `advantage_max`: the largest |A| of the team at the rollout's states and actions.
        - `alpha`: the upper bound on the joint TV at these states, `trust_region/joint_tv_upper_max`.
        - `penalty`: the penalty at that alpha.
        - `lower_bound`: the joint surrogate less the penalty.
        - `certified`: 1 if `lower_bound` is above 0, else 0.
        - `trivial_bound`: -min(1, 2 alpha) max|A| / (1 - gamma); no policy with this alpha improves the return by less.
        - `vacuous`: 1 if `lower_bound` is not above `trivial_bound`, so that it says nothing, else 0.
        - `alpha_shrink`: the factor in [0, 1] by which the step and with it alpha would have to shrink before
          `lower_bound` is above 0. To first order the surrogate shrinks by it and the penalty by its square, so it is
          surrogate over penalty; 1 if the update is certified as it is, 0 if the joint surrogate is not positive.
        - `lower_bound_clip`: the lower bound with `trust_region/clip_alpha` as alpha, which is what the clip range
          promises if all ratios stay in it; only with clipping.
        - `independent_lower_bound`: the surrogate less the penalty, for comparison: it is no lower bound.
        - `penalty_joint`: `penalty` before Theorem 2 rounds it up by 1 + gamma alpha / (1 - gamma); the one to compare
          the next ones with.
        - `penalty_happo`, `penalty_a2po`, `penalty_mappo`: penalties of other algorithms for this change, for
          comparison (`ops.penalties`); HAPPO's is also CoPPO's, A2PO's is for the agents' order and for a surrogate
          with advantages that are not measured here, and MAPPO's allows for no bound above 0.
    """
    ratio, counts = change.ratios()
    states = change.states()
    of_team = masked.mean(advantage, counts, axis=-1)

    def expected(gain: tf.Tensor) -> tf.Tensor:
        """Returns the mean over states of [B, T, n], over 1 - gamma, [n]."""
        return masked.mean(gain, tf.broadcast_to(states[..., None], tf.shape(gain)), axis=(0, 1)) / (1.0 - gamma)

    independent = expected(tf.where(counts, (ratio - 1.0) * advantage, 0.0))  # [K]
    joint_surrogate = expected(((tf.reduce_prod(ratio, axis=-1) - 1.0) * of_team)[..., None])[0]
    agent_ratio = surrogate.independent_ratio(*change.log_probs())
    sequential = expected(surrogate.sequential_surrogates(agent_ratio, of_team))  # [N]
    advantage_max = tf.reduce_max(tf.abs(of_team))
    alpha = sizes["trust_region/joint_tv_upper_max"]
    agent_tv_max = tf.reduce_max(total_variation.agent_tv(*change.teams()), axis=[0, 1])
    penalty = penalties.joint_penalty(advantage_max, alpha, gamma)
    lower_bound = joint_surrogate - penalty
    trivial_bound = -tf.minimum(1.0, 2.0 * alpha) * advantage_max / (1.0 - gamma)
    shrink = tf.math.divide_no_nan(tf.maximum(joint_surrogate, 0.0), penalty)
    metrics = {
        "joint_surrogate": joint_surrogate,
        "surrogate": tf.reduce_sum(independent),
        "sequential_surrogate": tf.reduce_sum(sequential),
        "sequential_surrogate_min": tf.reduce_min(sequential),
        "advantage_max": advantage_max,
        "alpha": alpha,
        "penalty": penalty,
        "lower_bound": lower_bound,
        "certified": tf.cast(lower_bound > 0.0, tf.float32),
        "trivial_bound": trivial_bound,
        "vacuous": tf.cast(~(lower_bound > trivial_bound), tf.float32),
        "alpha_shrink": tf.where(lower_bound > 0.0, 1.0, shrink),
        "independent_lower_bound": tf.reduce_sum(independent) - penalty,
        "penalty_joint": penalties.happo_penalty(advantage_max, alpha[None], gamma),
        "penalty_happo": penalties.happo_penalty(advantage_max, agent_tv_max, gamma),
        "penalty_a2po": penalties.a2po_penalty(advantage_max, agent_tv_max, gamma),
        "penalty_mappo": penalties.mappo_penalty(advantage_max, agent_tv_max, gamma),
    }
    if change.epsilon is not None:
        clip_penalty = penalties.joint_penalty(advantage_max, sizes["trust_region/clip_alpha"], gamma)
        metrics["lower_bound_clip"] = joint_surrogate - clip_penalty
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
            `exact`, a scalar, and six arrays of percentiles 0 to 100, [101] each.

            - `exact`: share of the measured states where the joint TV is exact.
            - `agent_tv`: TV of each agent's policy, over decisions.
            - `joint_tv_sum`, `joint_tv_product`, `joint_tv_hellinger`: upper bounds on the joint TV, over states.
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
            "joint_tv_hellinger": total_variation.joint_tv_hellinger_bounds(old, new).upper,
            "joint_tv_lower": tf.reduce_max(tv, axis=-1),
            "joint_tv": joint.value,
        }
        percentiles = {
            name: tf.cast(tfp.stats.percentile(values, _PERCENTILES, interpolation="nearest"), tf.float32)
            for name, values in distributions.items()
        }
        return {"exact": tf.reduce_mean(tf.cast(joint.exact, tf.float32))} | percentiles
