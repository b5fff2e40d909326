"""A rollout as PPO learns from it: with advantages, cut into sequences."""

from typing import NamedTuple

import tensorflow as tf
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from tf_marl.ops import categorical, masked


class Batch(NamedTuple):
    """S sequences of L steps: every field [S, L, ...], but for `state`."""

    observation: dict[str, tf.Tensor]
    step_type: tf.Tensor  # [S, L] int32
    state: types.NestedTensor  # [S, N, H] each: the recurrent states before each sequence
    action: tf.Tensor  # [S, L, N] int32
    old_log_prob: tf.Tensor  # [S, L, N]
    old_value: tf.Tensor  # [S, L, K]
    advantage: tf.Tensor  # [S, L, K], normalised over what `learns` admits
    returns: tf.Tensor  # [S, L, K]
    learns: tf.Tensor  # [S, L, N] bool: a living agent, not at the boundary of two episodes

    def rows(self, rows: tf.Tensor) -> "Batch":
        """Some of the sequences. Args: rows [R] int32."""
        return tf.nest.map_structure(lambda leaf: tf.gather(leaf, rows), self)


def cut(
    experience: trajectory.Trajectory,
    advantage: tf.Tensor,
    value: tf.Tensor,
    learns: tf.Tensor,
    length: int,
    state_spec: types.NestedTensorSpec,
) -> Batch:
    """Cuts a rollout into sequences.

    Args:
        experience: [B, T, ...]; `policy_info` has the `logits` that acted, and of recurrent networks `policy_state`.
        advantage: [B, T, K], in units of reward.
        value: [B, T, K], that the advantages were made with.
        learns: [B, T, N] bool, the decisions that count.
        length: L, a divisor of T.
        state_spec: of the recurrent states.
    """
    state = states_before(experience, state_spec, every=length)
    old = categorical.agent_distribution(categorical.team_distribution(experience.policy_info["logits"]))
    batch = Batch(
        observation=experience.observation,
        step_type=experience.step_type,
        state=(),
        action=experience.action,
        old_log_prob=old.log_prob(experience.action),
        old_value=value,
        advantage=masked.normalise(advantage, per_value(learns, advantage.shape[-1])),
        returns=advantage + value,
        learns=learns,
    )
    batch = tf.nest.map_structure(lambda leaf: tf.reshape(leaf, [-1, length, *leaf.shape[2:]]), batch)
    return batch._replace(state=state)


def states_before(
    experience: trajectory.Trajectory, state_spec: types.NestedTensorSpec, every: int | None = None
) -> types.NestedTensor:
    """The recurrent states before every so many steps of a rollout, [S, N, H] each; before the first alone if None."""

    def before(leaf: tf.Tensor) -> tf.Tensor:
        return tf.reshape(leaf[:, ::every] if every else leaf[:, 0], [-1, *leaf.shape[2:]])

    return tf.nest.map_structure(before, experience.policy_info.get("policy_state", state_spec))


def per_value(mask: tf.Tensor, num_values: int) -> tf.Tensor:
    """[..., N] bool -> [..., K]: where there is one value, the team counts where any of its agents does."""
    return mask if num_values == mask.shape[-1] else tf.reduce_any(mask, axis=-1, keepdims=True)


def shares(mask: tf.Tensor) -> tf.Tensor:
    """What each entry that a mask admits contributes to a mean, float; the shards of a batch add up to it."""
    counts = tf.cast(mask, tf.float32)
    return tf.math.divide_no_nan(counts, tf.reduce_sum(counts))
