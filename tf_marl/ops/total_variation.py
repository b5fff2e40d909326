"""Total variation between an old and a new team policy: the size of the trust region.

    TV(p, q) = 1/2 sum_a |p(a) - q(a)|

Every function takes the team's TFP distributions or its masked logits [..., N, A]. A dead agent has one action left,
so its total variation is 0 and it drops out by itself.
"""

from typing import TypeAlias

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tf_marl.ops import categorical

Team: TypeAlias = tf.Tensor | tfd.Distribution


def _probs(team: Team) -> tf.Tensor:
    """[..., N, A] probabilities of a team's agents."""
    if isinstance(team, tfd.Distribution):
        return categorical.agent_distribution(team).probs_parameter()
    return tf.nn.softmax(team, axis=-1)


def agent_tv(old: Team, new: Team) -> tf.Tensor:
    """Total variation of each agent's own policy, exact: [..., N], in [0, 1]."""
    return 0.5 * tf.reduce_sum(tf.abs(_probs(new) - _probs(old)), axis=-1)


def joint_tv_sum_bound(old: Team, new: Team) -> tf.Tensor:
    """Upper bound on the joint policy's total variation, sum_k TV_k: [...], in [0, N] (the paper's Proposition 2)."""
    return tf.reduce_sum(agent_tv(old, new), axis=-1)
