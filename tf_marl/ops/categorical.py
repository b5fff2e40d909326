"""The team acts by one distribution over joint actions, and only here are unavailable actions masked.

A team of N agents with A actions each acts by one distribution, `tfd.Independent(tfd.Categorical(logits), 1)` with
logits [..., N, A]. Its `log_prob` is that of the joint action. The `log_prob` of the categorical distribution inside is
that of each agent's own action. A masked logit is an ordinary number, so low that its probability is exactly 0 in
float32, so entropies, divergences and gradients stay finite.
"""

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

MASKED_LOGIT = -1e9


def mask_logits(logits: tf.Tensor, avail_actions: tf.Tensor) -> tf.Tensor:
    """Gives unavailable actions probability 0.

    Args:
        logits: [..., N, A], unmasked.
        avail_actions: [..., N, A] bool, True where an action may be taken; each agent has at least one such action.
    Returns:
        Masked logits, [..., N, A].
    """
    return tf.where(avail_actions, logits, MASKED_LOGIT)


def greedy(values: tf.Tensor, avail_actions: tf.Tensor) -> tf.Tensor:
    """Returns the available action with the highest value, the first of equally high ones.

    Args:
        values: [..., N, A], of the actions; those of unavailable actions do not matter.
        avail_actions: [..., N, A] bool, True where an action may be taken; each agent has at least one such action.
    Returns:
        Actions, [..., N] int32.
    """
    return tf.argmax(mask_logits(values, avail_actions), axis=-1, output_type=tf.int32)


def epsilon_greedy(values: tf.Tensor, avail_actions: tf.Tensor, epsilon: "tf.Tensor | float" = 0.0) -> tf.Tensor:
    """Returns the policy that takes a random available action with probability epsilon, else the best one.

    Args:
        values: [..., N, A], of the actions; those of unavailable actions do not matter.
        avail_actions: [..., N, A] bool, True where an action may be taken; each agent has at least one such action.
        epsilon: scalar in [0, 1].
    Returns:
        Masked logits, [..., N, A]; an action of probability 0 is masked, too.
    """
    best = tf.one_hot(greedy(values, avail_actions), values.shape[-1], dtype=values.dtype)
    return with_random(best, avail_actions, epsilon)


def with_random(probabilities: tf.Tensor, avail_actions: tf.Tensor, epsilon: "tf.Tensor | float") -> tf.Tensor:
    """Returns the policy that takes a random available action with probability epsilon, else follows another policy.

    Args:
        probabilities: [..., N, A], of the other policy; 0 for unavailable actions.
        avail_actions: [..., N, A] bool, True where an action may be taken; each agent has at least one such action.
        epsilon: scalar in [0, 1].
    Returns:
        Masked logits, [..., N, A]; an action of probability 0 is masked, too.
    """
    available = tf.cast(avail_actions, probabilities.dtype)
    random = available / tf.reduce_sum(available, axis=-1, keepdims=True)
    probabilities = (1.0 - epsilon) * probabilities + epsilon * random
    possible = probabilities > 0.0
    return mask_logits(tf.math.log(tf.where(possible, probabilities, 1.0)), possible)


def gumbel(shape: "tf.Tensor | list[int]", seed: tf.Tensor) -> tf.Tensor:
    """Draws Gumbel noise: the action with the largest sum of logit and noise is a sample of the policy.

    Args:
        shape: of the noise.
        seed: [2] int32.
    Returns:
        Finite float32 noise of that shape.
    """
    tiny = np.finfo(np.float32).tiny
    uniform = tf.random.stateless_uniform(shape, seed, tiny, 1.0)
    return -tf.math.log(tf.maximum(-tf.math.log(uniform), tiny))


def straight_through(logits: tf.Tensor, noise: tf.Tensor, temperature: float) -> tf.Tensor:
    """Samples one-hot actions whose gradient is that of a softmax.

        softmax((logits + noise) / temperature)         Jang et al. 2017, eq. 2

    Args:
        logits: [..., A], masked.
        noise: [..., A], from `gumbel`.
        temperature: of the softmax; a lower one is closer to the sample, and its gradient varies more.
    Returns:
        Samples of the policy as one-hot vectors, [..., A].
    """
    soft = tf.nn.softmax((logits + noise) / temperature)
    hard = tf.one_hot(tf.argmax(logits + noise, axis=-1), logits.shape[-1], dtype=logits.dtype)
    return soft + tf.stop_gradient(hard - soft)


class _Categorical(tfd.Categorical):
    """Differs from TFP's distribution in speed alone: there `log_prob` is a cross-entropy, which uses one core."""

    def _log_prob(self, value):
        log_probs = tf.nn.log_softmax(self._logits_parameter_no_checks())
        return tf.reduce_sum(log_probs * tf.one_hot(value, log_probs.shape[-1], dtype=log_probs.dtype), axis=-1)


def distribution(logits: tf.Tensor) -> tfd.Categorical:
    """Returns policies over actions.

    Args:
        logits: [..., A], masked, and finite.
    Returns:
        A categorical distribution with batch shape [...] over A actions; its samples are int32.
    """
    return _Categorical(logits=logits, dtype=tf.int32)


def team_distribution(logits: tf.Tensor) -> tfd.Independent:
    """Returns the team's joint policy.

    Args:
        logits: [..., N, A], masked.
    Returns:
        A distribution with batch shape [...] and event shape [N]; its samples are int32 [..., N].
    """
    return tfd.Independent(distribution(logits), reinterpreted_batch_ndims=1)


def agent_distribution(team: tfd.Independent) -> tfd.Categorical:
    """Returns the agents' own policies within a team's joint policy.

    Args:
        team: joint policy of batch shape [...] and event shape [N], made by `team_distribution`.
    Returns:
        A categorical distribution with batch shape [..., N] over A actions.
    """
    return team.distribution
