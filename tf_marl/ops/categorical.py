"""The team's policy distribution; the only place that masks unavailable actions.

A team of N agents with A actions each acts by one distribution, `tfd.Independent(tfd.Categorical(logits), 1)` with
logits [..., N, A]: its `log_prob` is the joint one, that of the distribution inside is the agents' own. Masked logits
are ordinary numbers so low that their probability is exactly 0 in float32, so entropies, divergences and gradients
stay finite.
"""

import tensorflow as tf
from tensorflow_probability import distributions as tfd

MASKED_LOGIT = -1e9


def mask_logits(logits: tf.Tensor, avail_actions: tf.Tensor) -> tf.Tensor:
    """Gives unavailable actions probability 0.

    Args:
        logits: [..., N, A].
        avail_actions: [..., N, A] bool; at least one per agent is True.
    Returns:
        [..., N, A] logits.
    """
    return tf.where(avail_actions, logits, MASKED_LOGIT)


def team_distribution(logits: tf.Tensor) -> tfd.Independent:
    """The team's joint policy. Args: logits [..., N, A], masked. Samples are int32 [..., N]."""
    return tfd.Independent(tfd.Categorical(logits=logits, dtype=tf.int32), reinterpreted_batch_ndims=1)


def agent_distribution(team: tfd.Independent) -> tfd.Categorical:
    """The agents' own policies within a team's: batch [..., N]."""
    return team.distribution
