"""PPO learns from a batch: a rollout with advantages, cut into sequences."""

from typing import NamedTuple

import tensorflow as tf
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from tf_marl.networks.actor import OF_AGENTS
from tf_marl.ops import categorical, masked


class Batch(NamedTuple):
    """Holds S sequences of L steps; every field except `state` is [S, L, ...].

    K is N, or 1 where the value and the advantage are the team's.
    """

    observation: dict[str, tf.Tensor]
    step_type: tf.Tensor  # [S, L] int32
    state: types.NestedTensor  # [S, N, H] each: the recurrent states before each sequence; () without a GRU
    action: tf.Tensor  # [S, L, N] int32
    old_log_prob: tf.Tensor  # [S, L, N]
    old_value: tf.Tensor  # [S, L, K]
    advantage: tf.Tensor  # [S, L, K], normalised over the entries that count
    returns: tf.Tensor  # [S, L, K]
    learns: tf.Tensor  # [S, L, N] bool: a living agent, not at the boundary of two episodes
    alive: tf.Tensor  # [S, L, N] bool, of the whole team, also in a batch of one agent: clip ranges may depend on it

    def rows(self, rows: tf.Tensor) -> "Batch":
        """Returns some of the sequences as a batch of their own.

        Args:
            rows: [R] int32, indices of the sequences.
        Returns:
            A batch whose fields are [R, L, ...], and `state` [R, N, H].
        """
        return tf.nest.map_structure(lambda leaf: tf.gather(leaf, rows), self)

    def of_agent(self, agent: tf.Tensor) -> "Batch":
        """Returns what one agent learns from, as the batch of a team of one.

        Args:
            agent: scalar int32, its index.
        Returns:
            A batch whose agent axes have size 1, but for that of `alive`. It holds nothing of the critic.
        """

        def own(leaf: tf.Tensor, axis: int = 2) -> tf.Tensor:
            return leaf if leaf.shape[axis] == 1 else tf.gather(leaf, agent[None], axis=axis)

        return self._replace(
            observation={name: own(self.observation[name]) for name in OF_AGENTS},
            state={"actor": own(self.state["actor"], axis=1), "critic": ()} if self.state else (),
            action=own(self.action),
            old_log_prob=own(self.old_log_prob),
            advantage=own(self.advantage),
            learns=own(self.learns),
        )


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
        experience: [B, T, ...]; its `policy_info` holds the `logits` that acted and, for recurrent networks,
            `policy_state`.
        advantage: [B, T, K], in units of reward.
        value: [B, T, K], the values that the advantages were computed from.
        learns: [B, T, N] bool, the decisions that count.
        length: L, a divisor of T.
        state_spec: of the recurrent states; () without a GRU.
    Returns:
        A batch of S = B T / L sequences, [S, L, ...].
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
        alive=experience.observation["alive"],
    )
    batch = tf.nest.map_structure(lambda leaf: tf.reshape(leaf, [-1, length, *leaf.shape[2:]]), batch)
    return batch._replace(state=state)


def states_before(
    experience: trajectory.Trajectory, state_spec: types.NestedTensorSpec, every: int | None = None
) -> types.NestedTensor:
    """Returns the recurrent states at the start of each sequence of a rollout.

    Args:
        experience: [B, T, ...]; for recurrent networks its `policy_info` holds `policy_state`.
        state_spec: of the recurrent states; () without a GRU.
        every: L, steps from one sequence's start to the next; None takes only the start of the rollout.
    Returns:
        Recurrent states, [S, N, H] each; S is B if `every` is None, else B T / L.
    """

    def before(leaf: tf.Tensor) -> tf.Tensor:
        return tf.reshape(leaf[:, ::every] if every else leaf[:, 0], [-1, *leaf.shape[2:]])

    return tf.nest.map_structure(before, experience.policy_info.get("policy_state", state_spec))


def per_value(mask: tf.Tensor, num_values: int) -> tf.Tensor:
    """Converts a mask over agents to a mask over values.

    Args:
        mask: [..., N] bool.
        num_values: K, either N or 1.
    Returns:
        The mask itself if K is N; else [..., 1], True where the mask is True for any agent.
    """
    return mask if num_values == mask.shape[-1] else tf.reduce_any(mask, axis=-1, keepdims=True)


def shares(mask: tf.Tensor) -> tf.Tensor:
    """Computes the weights with which the entries of a mask enter the batch's mean.

    Sums weighted so over the shards of a batch add up to the mean of the batch.

    Args:
        mask: bool of any shape.
    Returns:
        1 / (number of True entries) where `mask` is True, else 0; shaped like `mask`.
    """
    counts = tf.cast(mask, tf.float32)
    return tf.math.divide_no_nan(counts, tf.reduce_sum(counts))
