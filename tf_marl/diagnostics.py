"""How far an update moved the policy: the trust region, measured from the full distributions."""

from collections.abc import Callable

import tensorflow as tf

from tf_marl.ops import categorical, surrogate, total_variation


def trust_region(
    old_logits: tf.Tensor,
    new_logits: tf.Tensor,
    action: tf.Tensor,
    learns: tf.Tensor,
    epsilon: tf.Tensor,
    ratio: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = surrogate.independent_ratio,
) -> dict[str, tf.Tensor]:
    """Old policy against new, on the rows that were learned from.

    Args:
        old_logits: [B, T, N, A], masked; the policy that collected the rollout.
        new_logits: [B, T, N, A], masked; the policy after the update.
        action: [B, T, N] int32, as taken.
        learns: [B, T, N] bool, decisions of living agents outside episode boundaries.
        epsilon: half-width of the clip range, [] or [B, T, 1].
        ratio: the one that training clipped, of `ops.surrogate`.
    Returns:
        Scalars, each with the prefix `trust_region/`. `ratio_min`, `ratio_max`: of that ratio; `clip_fraction`: share
        of ratios outside [1 - epsilon, 1 + epsilon]; `kl_mean`: KL(old || new) of an agent, nats; `agent_tv_max`,
        `agent_tv_mean`: total variation of an agent; `joint_tv_sum_max`, `joint_tv_sum_mean`: over states, the sum of
        the agents' total variations at one state, which bounds the joint policy's; `epsilon`: its mean over states.
    """
    old = categorical.agent_distribution(categorical.team_distribution(old_logits))
    new = categorical.agent_distribution(categorical.team_distribution(new_logits))
    ratios = ratio(new.log_prob(action), old.log_prob(action))
    states = tf.reduce_any(learns, axis=-1)  # those where anybody decides
    if len(ratios.shape) == len(states.shape):  # the team's
        ratios = ratios[..., None]
    counts = learns if ratios.shape[-1] == learns.shape[-1] else states[..., None]
    ratios = tf.where(counts, ratios, 1.0)
    # Only rows that count: a boundary's observation is the one the episode ended on, nobody acts on it.
    tv = tf.where(learns, total_variation.agent_tv(old_logits, new_logits), 0.0)
    tv_sum = tf.reduce_sum(tv, axis=-1)
    mean = surrogate.masked_mean
    metrics = {
        "ratio_min": tf.reduce_min(ratios),
        "ratio_max": tf.reduce_max(ratios),
        "clip_fraction": mean(tf.cast(tf.abs(ratios - 1.0) > epsilon, tf.float32), counts),
        "kl_mean": mean(old.kl_divergence(new), learns),
        "agent_tv_max": tf.reduce_max(tv),
        "agent_tv_mean": mean(tv, learns),
        "joint_tv_sum_max": tf.reduce_max(tv_sum),
        "joint_tv_sum_mean": mean(tv_sum, states),
        "epsilon": mean(tf.broadcast_to(epsilon, states[..., None].shape)[..., 0], states),
    }
    return {f"trust_region/{name}": value for name, value in metrics.items()}
