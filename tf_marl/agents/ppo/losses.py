"""What PPO minimises: the clipped surrogate, the value loss, and what entropy is worth."""

from collections.abc import Callable

import tensorflow as tf

from tf_marl.agents.learner import Metrics
from tf_marl.agents.ppo.batch import Batch, per_value, shares
from tf_marl.agents.ppo.config import PPOConfig
from tf_marl.networks import ActorCritic
from tf_marl.ops import categorical, surrogate


class Losses:
    """The losses of a batch, as means over the decisions in it that count: `loss/policy`, `loss/value`, `loss/entropy`.

    Args:
        networks: actor and critic.
        ratio: of `ops.surrogate`: (log_prob, old_log_prob) [..., N] -> [..., N], or [...] for the team's.
        epsilon: alive [..., N] bool -> half-width of the clip range, [] or [..., 1], or None for no clipping.
        config: the rest.
    """

    def __init__(
        self,
        networks: ActorCritic,
        ratio: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        epsilon: Callable[[tf.Tensor], tf.Tensor | None],
        config: PPOConfig,
    ):
        self._networks = networks
        self._ratio = ratio
        self._epsilon = epsilon
        self._config = config

    def __call__(self, batch: Batch) -> Metrics:
        """Scalars: `loss/policy`, the clipped surrogate, negative; `loss/value`; `loss/entropy`, nats."""
        return self.of_shard(batch, *self.shares(batch))

    def shares(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Of each value [S, L, K], and of each agent's decision [S, L, N], in the batch's means."""
        return shares(per_value(batch.learns, batch.advantage.shape[-1])), shares(batch.learns)

    def of_shard(self, batch: Batch, share: tf.Tensor, agent_share: tf.Tensor) -> Metrics:
        """What some sequences contribute. Args: share [S, L, K], agent_share [S, L, N], of these sequences."""
        team, value, _ = self._networks(batch.observation, batch.step_type, batch.state)
        agents = categorical.agent_distribution(team)
        ratio = self._ratio(agents.log_prob(batch.action), batch.old_log_prob)
        ratio = tf.reshape(ratio, tf.shape(batch.advantage))  # the team's is [S, L]
        gain = surrogate.clipped_surrogate(ratio, batch.advantage, self._epsilon(batch.observation["alive"]))
        return {
            "loss/policy": -_sum(gain, share),
            "loss/value": _sum(self._value_loss(value, batch), share),
            "loss/entropy": _sum(agents.entropy(), agent_share),
        }

    def _value_loss(self, value: tf.Tensor, batch: Batch) -> tf.Tensor:
        """[S, L, K], in the units that the critic's head learns."""
        config, normalise = self._config, self._networks.critic.normalise
        value, old_value, target = map(normalise, (value, batch.old_value, batch.returns))

        def loss(value: tf.Tensor) -> tf.Tensor:
            if config.value_loss == "huber":
                return surrogate.huber_value_loss(value, target, config.huber_delta)
            return surrogate.squared_value_loss(value, target)

        if config.value_clip is None:
            return loss(value)
        return tf.maximum(loss(value), loss(surrogate.clip_value(value, old_value, config.value_clip)))


def _sum(x: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.where(share > 0.0, x, 0.0) * share)  # what is hidden may be inf or NaN
