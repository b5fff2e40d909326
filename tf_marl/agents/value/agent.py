"""The value-based agent keeps what it has seen, and fits the value of the team's joint actions to it.

    y_t = TD(lambda) or n-step return of  Q_tot'(s, argmax_a Q_k(o_k, a))     target Q': van Hasselt et al. 2016
    loss = mean over decisions of  (y_t - Q_tot(s_t, a_t))^2                  Rashid et al. 2018, eq. 6

IQL, VDN and QMIX differ in the mixer alone (`variants.py`, `networks/mixers.py`).

Shapes: B environments, T steps, N agents, A actions; S sequences in a gradient step; K joint values, N for IQL, else 1.
"""

import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.learner import Metrics
from tf_marl.agents.off_policy import OffPolicyLearner, priority
from tf_marl.agents.optimizers import adam, follow
from tf_marl.agents.replay import Sequences
from tf_marl.agents.value.config import ValueConfig
from tf_marl.agents.value.networks import TeamValue
from tf_marl.agents.value.policy import EpsilonGreedyPolicy, GreedyPolicy
from tf_marl.compile import graph, shards
from tf_marl.ops import categorical, returns


class ValueAgent(OffPolicyLearner):
    """Learns action values off-policy, from sequences of earlier rollouts; all agents share their weights.

    `policy` takes each agent's best action. `collect_policy` takes random ones as well, with a probability that falls
    with the env steps. Dead agents are left out, and unavailable actions are never anyone's best. `learn` gives
    `loss/value`; `grad_norm/actor`, the gradient's norm before clipping; `value/chosen` and `value/target`, the joint
    values of the actions taken and what they are fitted to; and `value/epsilon`.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        online: Q-network and mixer that learn.
        target: those that give the targets; they start with the same weights.
        config: all settings.
    """

    config: ValueConfig
    recorded = ("loss/value", "value/chosen", "value/target", "grad_norm/actor")

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        online: TeamValue,
        target: TeamValue,
        config: ValueConfig,
    ):
        self.online, self.target = online, target
        self.actor = online.q_network
        spec = (time_step_spec, action_spec)
        super().__init__(
            "value",
            config,
            *spec,
            policy=GreedyPolicy(*spec, self.actor),
            collect_policy=EpsilonGreedyPolicy(*spec, online, self.epsilon, ["policy_state"]),
            weights={"actor": self.actor, "mixer": online.mixer},
            watched_policy=EpsilonGreedyPolicy(*spec, online, lambda: tf.constant(0.0), ["value"]),
        )
        self.optimizers = [adam(config.learning_rate, online.trainable_variables, config.adam_epsilon)]
        self._gradients = graph.function(self._gradients_of_shard, jit_compile=True)

    def observe(self, new: Sequences) -> None:
        decides = ~new.boundary
        self.actor.torso.observe(new.before, decides[..., None] & new.before["alive"])
        self.online.mixer.observe(new.before, decides)

    def gradient_step(self, batch: Sequences, weight: tf.Tensor, seed: tf.Tensor) -> tuple[Metrics, tf.Tensor]:
        del seed  # there is no chance in it
        counted = weight[:, None, None] * tf.cast(self._learns(batch), tf.float32)
        share = tf.math.divide_no_nan(weight, tf.reduce_sum(counted))
        summed, priorities = zip(*shards.side_by_side(self._gradients, batch, share), strict=True)
        told, gradients = tf.nest.map_structure(lambda *leaves: tf.add_n(leaves), *summed)
        norm = self.step(self.optimizers[0], gradients, self.online.trainable_variables)
        follow(self.target, self.online, self.target_share())
        return told | {"grad_norm/actor": norm}, tf.concat(priorities, axis=0)

    def _gradients_of_shard(
        self, batch: Sequences, share: tf.Tensor
    ) -> tuple[tuple[Metrics, list[tf.Tensor]], tf.Tensor]:
        """Returns what some of a batch's sequences contribute to its means and gradients, and their priorities, [S].

        Args:
            batch: these sequences, [S, T, ...].
            share: [S], weight of each of their decisions in the means.
        """
        learns = self._learns(batch)

        def mean(x: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(tf.where(learns, x, 0.0) * share[:, None, None])

        rows = batch.observation, batch.step_type, batch.state, batch.action
        target_q, _ = self.target.q_network.values(*rows)
        with tf.GradientTape() as tape:
            q, _ = self.online.q_network.values(*rows)
            chosen = self.online.of(q[:, :-1], batch.action, batch.before)
            target = tf.stop_gradient(self.returns(batch, q if self.config.double_q else target_q, target_q))
            loss = mean(tf.square(target - chosen))
        told = {"loss/value": loss, "value/chosen": mean(chosen), "value/target": mean(target)}
        gradients = tape.gradient(loss, self.online.trainable_variables)
        return (told, gradients), priority(target - chosen, learns)

    def returns(self, batch: Sequences, q: tf.Tensor, target_q: tf.Tensor) -> tf.Tensor:
        """Computes the returns that the joint values are fitted to.

        Args:
            batch: [S, T, ...].
            q: [S, T + 1, N, A], the action values that choose each agent's best action.
            target_q: [S, T + 1, N, A], the target network's action values, which rate it.
        Returns:
            Returns, [S, T, K]; values of boundaries are of no use.
        """
        config = self.config
        best = categorical.greedy(q, batch.observation["avail_actions"])
        value = self.target.of(target_q, best, batch.observation)
        value, bootstrap = value[:, :-1], value[:, -1]
        rows = batch.reward, batch.discount, value, bootstrap, config.gamma
        if config.lambda_ is not None:
            return returns.gae(*rows, config.lambda_, batch.boundary) + value
        assert config.n_steps is not None
        return returns.n_step(*rows, config.n_steps, batch.boundary)

    def _learns(self, batch: Sequences) -> tf.Tensor:
        """Returns which joint values count, [S, T, K] bool: not those of rows where nobody lives."""
        return self.counts(batch)[..., None] & self.online.mixer.learns(batch.before["alive"])
