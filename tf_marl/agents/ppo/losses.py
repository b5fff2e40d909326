"""PPO minimises the negative clipped surrogate and the value loss, less an entropy bonus."""

from collections.abc import Callable

import tensorflow as tf

from tf_marl.agents.learner import Metrics
from tf_marl.agents.ppo.batch import Batch, per_value, shares
from tf_marl.agents.ppo.config import PPOConfig
from tf_marl.networks import ActorCritic
from tf_marl.networks.layers import spread
from tf_marl.ops import categorical, surrogate


class Losses:
    """Computes the losses of a batch, as means over the decisions in it that count.

    Shapes: S sequences of L steps, N agents; K is N, or 1 where the value and the advantage are the team's.

    Args:
        networks: actor and critic; without a critic there is no value loss.
        ratio: one of `surrogate`: (log_prob, old_log_prob), [..., N] each, to ratios [..., N] or, for the team, [...].
        epsilon: from alive [..., N] bool to the half-width of the clip range, scalar or [..., 1], or None for no
            clipping.
        config: the other settings.
    """

    def __init__(
        self,
        networks: ActorCritic,
        ratio: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        epsilon: Callable[[tf.Tensor], tf.Tensor | None],
        config: PPOConfig,
    ):
        self.networks, self.ratio = networks, ratio
        self._epsilon = epsilon
        self._config = config

    def __call__(self, batch: Batch) -> Metrics:
        """Computes the losses of a whole batch.

        Args:
            batch: S sequences of L steps, [S, L, ...].
        Returns:
            Scalars by name. `loss/policy` is minus the clipped surrogate, `loss/value` is in the squared units that the
            critic's head learns, and `loss/entropy` is the mean entropy of an agent in nats.
        """
        return self.of_shard(batch, *self.shares(batch))

    def shares(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the weight of each entry in the batch's means: 1 / (number of entries that count), or 0.

        Args:
            batch: S sequences of L steps, [S, L, ...].
        Returns:
            Weights of the values, [S, L, K], and of the agents' decisions, [S, L, N].
        """
        return shares(per_value(batch.learns, batch.advantage.shape[-1])), shares(batch.learns)

    def of_shard(self, batch: Batch, share: tf.Tensor, agent_share: tf.Tensor) -> Metrics:
        """Computes what some of a batch's sequences contribute to its losses.

        The contributions of all shards add up to the losses of the batch.

        Args:
            batch: these sequences, [S, L, ...].
            share: [S, L, K], weight of each value in the whole batch's means.
            agent_share: [S, L, N], weight of each agent's decision in the whole batch's means.
        Returns:
            Scalars `loss/policy`, `loss/value` and `loss/entropy` (nats).
        """
        log_prob, entropy, value = self._evaluated(batch)
        gain, policy_share = self.gains(log_prob, batch, share, agent_share)
        losses = {"loss/policy": -_sum(gain, policy_share), "loss/entropy": _sum(entropy, agent_share)}
        return losses if value is None else losses | {"loss/value": _sum(self._value_loss(value, batch), share)}

    def gains(
        self, log_prob: tf.Tensor, batch: Batch, share: tf.Tensor, agent_share: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the terms of the surrogate, and their weights in its mean.

        Args:
            log_prob: [S, L, N], of the actions under the present policy.
            batch: the sequences, [S, L, ...].
            share: [S, L, K], weight of each value in the whole batch's means.
            agent_share: [S, L, N], weight of each agent's decision in the whole batch's means.
        Returns:
            Terms and weights, [S, L, N] each, or [S, L, 1] where the ratio is the team's.
        """
        ratio = self.ratio(log_prob, batch.old_log_prob)
        ratio = ratio if len(ratio.shape) == len(log_prob.shape) else ratio[..., None]  # the team's is [S, L]
        gain = surrogate.clipped_surrogate(ratio, batch.advantage, self._epsilon(batch.alive))
        return gain, share if gain.shape[-1] == share.shape[-1] else agent_share

    def logits(self, batch: Batch) -> tf.Tensor:
        """Computes the masked logits of the present policy.

        Args:
            batch: S sequences of L steps, [S, L, ...].
        Returns:
            Logits, [S, L, N, A]. Of decisions that do not count they may all be 0.
        """
        decisions = self.networks.decisions(batch.learns)
        if decisions is None:
            team, *_ = self.networks(batch.observation, batch.step_type, batch.state)
            return categorical.agent_distribution(team).logits_parameter()
        agents, _ = self.networks.of_decisions(decisions, batch.observation)
        return spread(agents.logits_parameter(), decisions, batch.learns.shape)

    def _evaluated(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """Returns the actions' log-probabilities and the entropies, [S, L, N] each, and the values, [S, L, K] or None.

        Those of decisions that do not count may be 0, or wrong values.
        """
        decisions = self.networks.decisions(batch.learns)
        if decisions is None:
            team, value, _ = self.networks(batch.observation, batch.step_type, batch.state)
            agents = categorical.agent_distribution(team)
            return agents.log_prob(batch.action), agents.entropy(), value
        agents, value = self.networks.of_decisions(decisions, batch.observation)
        log_prob = agents.log_prob(tf.gather(tf.reshape(batch.action, [-1]), decisions))
        shape = batch.learns.shape
        return spread(log_prob, decisions, shape), spread(agents.entropy(), decisions, shape), value

    def _value_loss(self, value: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Computes the value losses, [S, L, K], in the squared units that the critic's head learns."""
        assert self.networks.critic is not None
        config, normalise = self._config, self.networks.critic.normalise
        value, old_value, target = map(normalise, (value, batch.old_value, batch.returns))

        def loss(value: tf.Tensor) -> tf.Tensor:
            if config.value_loss == "huber":
                return surrogate.huber_value_loss(value, target, config.huber_delta)
            return surrogate.squared_value_loss(value, target)

        if config.value_clip is None:
            return loss(value)
        return tf.maximum(loss(value), loss(surrogate.clip_value(value, old_value, config.value_clip)))


def _sum(x: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.where(share > 0.0, x, 0.0) * share)  # hidden entries may be inf or NaN
