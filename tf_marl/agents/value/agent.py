"""The value-based agent keeps what it has seen, and fits the value of the team's joint actions to it.

    y_t = TD(lambda) or n-step return of  Q_tot'(s, argmax_a Q_k(o_k, a))     target Q': van Hasselt et al. 2016
    loss = mean over decisions of  (y_t - Q_tot(s_t, a_t))^2                  Rashid et al. 2018, eq. 6

IQL, VDN and QMIX differ in the mixer alone (`variants.py`, `networks/mixers.py`).

Shapes: B environments, T steps, N agents, A actions; S sequences in a gradient step; K joint values, N for IQL, else 1.
"""

from typing import Any

import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.learner import Learner, Metrics, Rollout
from tf_marl.agents.optimizers import adam
from tf_marl.agents.policy import TeamPolicy
from tf_marl.agents.replay import Replay, Sequences, sequences
from tf_marl.agents.value.config import ValueConfig
from tf_marl.agents.value.networks import TeamValue
from tf_marl.agents.value.policy import EpsilonGreedyPolicy
from tf_marl.compile import graph, shards
from tf_marl.config import fields
from tf_marl.ops import categorical, returns

# How many times the outputs of all layers, for one batch, a gradient step holds in memory.
_HELD_OUTPUTS = 3.0


class ValueAgent(Learner):
    """Learns action values off-policy, from sequences of earlier rollouts; all agents share their weights.

    `policy` takes each agent's best action. `collect_policy` takes random ones as well, with a probability that falls
    with the env steps. Dead agents are left out, and unavailable actions are never anyone's best.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        online: Q-network and mixer that learn.
        target: those that give the targets; they start with the same weights.
        config: all settings.
    """

    replay: Replay

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        online: TeamValue,
        target: TeamValue,
        config: ValueConfig,
    ):
        self.config = config
        self.online, self.target = online, target
        self.actor = online.q_network
        # What replay counts and epsilon follows.
        self._rollouts = tf.Variable(0, dtype=tf.int64, trainable=False, name="rollouts")
        self._env_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="env_steps")
        spec = (time_step_spec, action_spec)
        super().__init__(
            *spec,
            policy=TeamPolicy(*spec, self.actor, greedy=True),
            collect_policy=EpsilonGreedyPolicy(*spec, online, self.epsilon, ["policy_state"]),
            weights={"actor": self.actor, "mixer": online.mixer},
            watched_policy=EpsilonGreedyPolicy(*spec, online, lambda: tf.constant(0.0), ["value"]),
        )
        self.replay = Replay(config.replay_rows, self._rollouts, "value.replay_rows")
        self._optimizer = adam(config.learning_rate, online.trainable_variables, config.adam_epsilon)
        self._gradients = graph.function(self._gradients_of_shard, jit_compile=True)

    def epsilon(self) -> tf.Tensor:
        """Returns the present probability of a random action, a scalar."""
        return self.config.epsilon(self._env_steps)

    def check(self, num_envs: int, num_steps: int) -> None:
        self.replay.num_rollouts(num_envs, num_steps)

    def learn(self, rollout: Rollout) -> Metrics:
        """Adds a rollout to the replay, and takes gradient steps on sequences drawn from it.

        Args:
            rollout: fresh experience, tensors [B, T, ...].
        Returns:
            Scalars, means over the gradient steps: `loss/value`; `grad_norm/actor`, the gradient's norm before
            clipping; `value/chosen` and `value/target`, the joint values of the actions taken and what they are fitted
            to. Also `value/epsilon`, the probability of a random action in the rollout.
        """
        new = sequences(rollout)
        epsilon = self.epsilon()
        self.replay.add(new)
        metrics = self._learn_from_replay()
        decides = ~new.boundary
        learns = decides[..., None] & new.before["alive"]
        self.actor.torso.observe(new.before, learns)
        self.online.mixer.observe(new.before, decides)
        self._env_steps.assign_add(tf.reduce_sum(tf.cast(decides, tf.int64)))
        return metrics | {"value/epsilon": epsilon}

    @graph.converted
    def _learn_from_replay(self) -> Metrics:
        config = self.config
        names = ["loss/value", "value/chosen", "value/target", "grad_norm/actor"]
        totals = dict.fromkeys(names, tf.constant(0.0))
        root = tf.constant([config.seed, 9], tf.int32)
        for _ in tf.range(config.num_updates):
            seed = tf.random.experimental.stateless_fold_in(root, self.train_step_counter)
            told = self._gradient_step(self.replay.sample(config.batch_size, seed))
            totals = {name: total + told[name] for name, total in totals.items()}
        return {name: total / config.num_updates for name, total in totals.items()}

    def _gradient_step(self, batch: Sequences) -> Metrics:
        config = self.config
        count = tf.reduce_sum(tf.cast(self._learns(batch), tf.float32))
        share = tf.fill(batch.reward.shape[:1], tf.math.divide_no_nan(1.0, count))
        parts = shards.side_by_side(self._gradients, batch, share)
        told, gradients = tf.nest.map_structure(lambda *leaves: tf.add_n(leaves), *parts)
        norm = tf.linalg.global_norm(gradients)
        if config.max_grad_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, config.max_grad_norm, norm)
        self._optimizer.apply_gradients(zip(gradients, self.online.trainable_variables, strict=True))
        step = self.train_step_counter.assign_add(1)
        self.target.follow(self.online, tf.where(step % config.target_every == 0, config.target_rate, 0.0))
        return told | {"grad_norm/actor": norm}

    def _gradients_of_shard(self, batch: Sequences, share: tf.Tensor) -> tuple[Metrics, list[tf.Tensor]]:
        """Returns what some of a batch's sequences contribute to its means and gradients.

        Args:
            batch: these sequences, [S, T, ...].
            share: [S], weight of each of their decisions in the means.
        """
        learns = self._learns(batch)

        def mean(x: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(tf.where(learns, x, 0.0) * share[:, None, None])

        target_q, _ = self.target.q_network.values(batch.observation, batch.step_type, batch.state)
        with tf.GradientTape() as tape:
            q, _ = self.online.q_network.values(batch.observation, batch.step_type, batch.state)
            chosen = self.online.of(q[:, :-1], batch.action, batch.before)
            target = tf.stop_gradient(self.returns(batch, q if self.config.double_q else target_q, target_q))
            loss = mean(tf.square(target - chosen))
        told = {"loss/value": loss, "value/chosen": mean(chosen), "value/target": mean(target)}
        return told, tape.gradient(loss, self.online.trainable_variables)

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
        """Returns which joint values count, [S, T, K] bool: not at boundaries, and not where nobody lives."""
        return ~batch.boundary[..., None] & self.online.mixer.learns(batch.before["alive"])

    # What training and checkpoints ask for.

    @property
    def learning_variables(self) -> list[tf.Variable]:
        return [*self.variables, *self._optimizer.variables()]

    def settings(self) -> dict[str, Any]:
        options = fields("value", self.config)
        del options["value.seed"]  # recorded as the run's seed
        return options

    def memory_kept(self, num_envs: int, num_steps: int) -> dict[str, float]:
        config = self.config
        leaves = tf.nest.flatten(self.policy.trajectory_spec)
        row = sum(leaf.shape.num_elements() * leaf.dtype.size for leaf in leaves)  # bytes
        rows = self.replay.num_rollouts(num_envs, num_steps) * num_envs * (num_steps + 1)
        widths = sum(weight.shape[-1] for weight in self.actor.trainable_variables if weight.shape.rank > 1)
        held = _HELD_OUTPUTS * widths * self.actor.torso.inputs["obs"].shape[0] * 4
        return {
            f"value.replay_rows = {config.replay_rows:,}": rows * row / 1e9,
            f"value.batch_size = {config.batch_size:,}": config.batch_size * num_steps * (held + 2 * row) / 1e9,
        }
