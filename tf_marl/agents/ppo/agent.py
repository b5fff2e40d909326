"""Decentralised PPO, top to bottom: act, advantage, policy step, measure.

One learner for the whole family. An agent is an actor, a critic and an optimiser for each; what tells IPPO, MAPPO and
JR-PPO apart is what the critic sees and how the ratio is formed (`variants.py`).

Shapes: B environments, T steps, N agents, A actions; S sequences of L steps, which a rollout is cut into: single rows
for feed-forward networks, whole rollouts or chunks of them for recurrent ones. K is N, or 1 where the ratio, the value
and the advantage are the team's.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from tf_marl import diagnostics
from tf_marl.agents.learner import Learner, Metrics, Rollout
from tf_marl.agents.policy import RecordingPolicy, TeamPolicy
from tf_marl.agents.ppo import optimizers
from tf_marl.agents.ppo.batch import Batch, cut, per_value, states_before
from tf_marl.agents.ppo.config import PPOConfig
from tf_marl.agents.ppo.epochs import Epochs, Step
from tf_marl.agents.ppo.hooks import Hook, Watch
from tf_marl.agents.ppo.losses import Losses
from tf_marl.compile import graph, shards
from tf_marl.config import fields
from tf_marl.networks import ActorCritic
from tf_marl.ops import categorical, returns

_ACTOR_LOSSES, _CRITIC_LOSSES = ("loss/policy", "loss/entropy"), ("loss/value",)
# Outputs of all layers, of a minibatch, where gradients need them: fitted to measured peaks on a CPU, by the kind of
# network.
_HELD_OUTPUTS = {"none": 1.2, "gru": 2.7}


class Update(NamedTuple):
    """What there is to tell of an update."""

    metrics: Metrics
    advantage: tf.Tensor  # [B, T, K], in units of reward: what the actor learned from, before it was normalised
    history: Any  # what `watch` made of the policy, [num_epochs + 1, ...], NaN after an early stop; () without one


class PPOAgent(Learner):
    """PPO for a team that TF-Agents sees as one agent with an int32 [N] action.

    `policy` acts greedily and needs the actor alone. `collect_policy` samples and records the masked `logits` it acted
    with, and recurrent states. Dead agents have one action left, hence ratio 1 and entropy 0; they are in no loss and
    no statistic.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        networks: actor and critic.
        ratio: of `ops.surrogate`: (log_prob, old_log_prob) [..., N] -> [..., N], or [...] for the team's.
        config: the rest.
        full: what is measured of some updates besides.
    """

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        networks: ActorCritic,
        ratio: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        config: PPOConfig,
        full: diagnostics.Full | None = None,
    ):
        self.config = config
        self.networks = networks
        self.actor, self.critic = networks.actor, networks.critic
        self.ratio = ratio
        self.clip_range = config.clip_range
        # What restraints make of the clip range.
        self.epsilon_scale = tf.Variable(1.0, trainable=False, name="epsilon_scale")
        self._full = full or diagnostics.Full()
        # Recurrent critics run along anyway; a value from others is cheaper in one pass over the rollout.
        record = ["logits", "value", "policy_state"] if networks.state_spec else ["logits"]
        super().__init__(
            time_step_spec,
            action_spec,
            policy=TeamPolicy(time_step_spec, action_spec, networks.actor, greedy=True),
            collect_policy=RecordingPolicy(time_step_spec, action_spec, networks, record),
            weights={"actor": self.actor, "critic": self.critic},
            watched_policy=RecordingPolicy(time_step_spec, action_spec, networks, ["value"], greedy=True),
        )
        jit_compile = config.rnn != "none" if config.jit_compile is None else config.jit_compile
        self._on_rows = shards.on_rows if jit_compile else lambda function, *rows: function(*rows)
        compiled = graph.function(jit_compile=jit_compile)
        self._compiled_values, self._compiled_logits = compiled(self._values), compiled(self._logits)
        self.losses = Losses(networks, ratio, self.epsilon, config)
        self._parts = self._make_parts()
        self._steps = self._make_steps(jit_compile)

    def _make_parts(self) -> list[optimizers.Part]:
        """The actor's and the critic's, or one for both where they share a torso."""
        config, actor, critic = self.config, self.actor, self.critic

        def policy(losses: Metrics) -> tf.Tensor:
            left = self._left(config.entropy_schedule)
            return losses["loss/policy"] - config.entropy_coefficient * left * losses["loss/entropy"]

        def value(losses: Metrics) -> tf.Tensor:
            return losses["loss/value"]

        def part(name, variables, rate, objective, losses, network, moves_actor=True) -> optimizers.Part:
            optimizer = optimizers.make(config, lambda: rate * self._left(config.learning_rate_schedule), variables)
            return optimizers.Part(name, variables, optimizer, objective, losses, network, moves_actor)

        actors, critics = actor.trainable_variables, critic.trainable_variables
        if self.networks.shares_torso:
            own = [variable for variable in critics if not any(variable is shared for shared in actors)]

            def both(losses: Metrics) -> tf.Tensor:
                return policy(losses) + config.value_coefficient * value(losses)

            losses, rate = _ACTOR_LOSSES + _CRITIC_LOSSES, config.actor_learning_rate
            return [part("actor_critic", [*actors, *own], rate, both, losses, self.networks)]
        return [
            part("actor", actors, config.actor_learning_rate, policy, _ACTOR_LOSSES, actor),
            part("critic", critics, config.critic_learning_rate, value, _CRITIC_LOSSES, critic, moves_actor=False),
        ]

    def _make_steps(self, jit_compile: bool) -> list[Step]:
        """What an update is made of: for each, advantages are made anew."""
        config, parts = self.config, self._parts
        if config.order == "together":
            return [Epochs(parts, self.losses, config.num_epochs, config, jit_compile)]
        actor, critic = parts
        num_critic_epochs = config.num_critic_epochs or config.num_epochs
        return [
            Epochs([critic], self.losses, num_critic_epochs, config, jit_compile),
            Epochs([actor], self.losses, config.num_epochs, config, jit_compile),
        ]

    # Learning.

    def learn(self, rollout: Rollout) -> Metrics:
        return self._learn(rollout).metrics

    def is_due(self) -> bool:
        return self._full.due(int(self.train_step_counter))

    def learn_closely(self, rollout: Rollout) -> tuple[Metrics, dict[str, tf.Tensor]]:
        """`learn`, and per epoch, [epochs + 1, ...] each: the ratios' sizes and `diagnostics.Full.distribution`."""
        seed = tf.random.experimental.stateless_fold_in([self.config.seed, 8], self.train_step_counter)
        update = self._learn(
            rollout, lambda _, change: diagnostics.ratio_sizes(change) | self._full.distribution(change, seed)
        )
        return update.metrics, update.history

    def _learn(self, rollout: Rollout, watch: Callable[..., Any] | None = None) -> Update:
        """An update, and how far it moved the policy."""
        experience = rollout.experience
        epsilon = self.epsilon(experience.observation["alive"])  # restraints may set another for the next update
        update = self.update(*rollout, watch)
        seed = tf.random.experimental.stateless_fold_in([self.config.seed, 7], self.train_step_counter)
        change = self.policy_change(experience)._replace(epsilon=epsilon)
        sizes = diagnostics.trust_region(change, seed)
        gamma = self.config.gamma
        certificate = diagnostics.certificate(change, update.advantage, gamma, sizes) if gamma < 1 else {}
        return update._replace(metrics=sizes | certificate | update.metrics)

    def update(
        self,
        experience: trajectory.Trajectory,
        final_time_step: ts.TimeStep,
        watch: Callable[[tf.Tensor, diagnostics.PolicyChange], Any] | None = None,
    ) -> Update:
        """One PPO update from a fresh rollout.

        Args:
            experience: [B, T, ...]; `policy_info` is the collect policy's.
            final_time_step: [B, ...], what the environments showed after the last row.
            watch: is shown the policy before each of the actor's epochs and after the update: see `hooks.Watch`.
        Returns:
            Its metrics, averaged over the gradient steps, are `loss/policy`, `loss/value`, `loss/entropy` (nats),
            `grad_norm/actor`, `grad_norm/critic` or, of a shared torso, `grad_norm/actor_critic` (before clipping);
            `trust_region/epochs`, how many epochs the actor learned for; and, where restraints hold the trust region,
            the least `trust_region/alpha` of them and what they record.
        Raises:
            ValueError: see `num_sequences`.
        """
        restraints, config = self.config.enforce, self.config
        hooks: list[Hook] = [*restraints, *([Watch(watch, config.num_epochs)] if watch else [])]
        change = functools.partial(self.policy_change, experience)
        memories = tuple(hook.begin(self, change) for hook in hooks)
        seed = tf.random.experimental.stateless_fold_in([config.seed, 1], self.train_step_counter)
        learns = self.learning_mask(experience)
        metrics: Metrics = {}
        for i, step in enumerate(self._steps):
            advantage, value = self.advantages(experience, final_time_step, critic_is_new=i > 0)
            batch = self._cut(experience, advantage, value)
            if i == 0:
                self.critic.observe_returns(batch.returns, per_value(batch.learns, value.shape[-1]))
            if step.moves_actor:
                learned, epochs, memories = step(batch, seed, self, change, hooks, memories)
                learned["trust_region/epochs"] = tf.cast(epochs, tf.float32)
            else:
                learned, *_ = step(batch, seed, self, change, (), ())
            metrics |= learned
        ends = [hook.end(self, change, epochs, memory) for hook, memory in zip(hooks, memories, strict=True)]
        for _, told in ends:
            metrics |= told
        if restraints:
            metrics["trust_region/alpha"] = tf.constant(min(restraint.alpha for restraint in restraints))
        # Not before, so that ratios start from 1; the next rollout is collected with the new statistics.
        for torso in dict.fromkeys([self.actor.torso, self.critic.torso]):
            torso.observe(experience.observation, learns)
        self.train_step_counter.assign_add(1)
        return Update(metrics, advantage, ends[-1][0] if watch else ())

    # What is learned from.

    def batch(
        self, experience: trajectory.Trajectory, final_time_step: ts.TimeStep, critic_is_new: bool = False
    ) -> Batch:
        """A rollout with advantages, cut into sequences. Args: as for `advantages`."""
        return self._cut(experience, *self.advantages(experience, final_time_step, critic_is_new))

    def _cut(self, experience: trajectory.Trajectory, advantage: tf.Tensor, value: tf.Tensor) -> Batch:
        _, length = self.num_sequences(*experience.reward.shape)
        learns = self.learning_mask(experience)
        return cut(experience, advantage, value, learns, length, self.networks.state_spec)

    def advantages(
        self, experience: trajectory.Trajectory, final_time_step: ts.TimeStep, critic_is_new: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Generalised advantage estimates, and the values they were made with: [B, T, K] each, in units of reward.

        Args:
            experience, final_time_step: as for `update`.
            critic_is_new: whether it has learned since the rollout, so that values on record are not its own.
        """
        if critic_is_new or "value" not in experience.policy_info:
            value, bootstrap_value = self._on_rows(self._compiled_values, experience, final_time_step)
        else:
            last = tf.nest.map_structure(lambda leaf: leaf[:, -1:], experience)
            _, bootstrap_value = self._compiled_values(last, final_time_step)
            value = experience.policy_info["value"]
        advantage = returns.gae(
            experience.reward,
            experience.discount,
            value,
            bootstrap_value,
            self.config.gamma,
            self.config.lambda_,
            boundary=experience.is_boundary(),
        )
        return advantage, value

    def check(self, num_envs: int, num_steps: int) -> None:
        self.num_sequences(num_envs, num_steps)

    def num_sequences(self, num_envs: int, num_steps: int) -> tuple[int, int]:
        """S and L: what a rollout is cut into.

        Args:
            num_envs: B.
            num_steps: T.
        Raises:
            ValueError: T is no multiple of `sequence_length`, or there are fewer sequences than minibatches.
        """
        length = 1 if self.config.rnn == "none" else self.config.sequence_length or num_steps
        if num_steps % length:
            raise ValueError(f"sequence_length = {length} does not divide the {num_steps} env steps of a rollout")
        sequences, minibatches = num_envs * num_steps // length, self.config.num_minibatches
        if sequences < minibatches:
            what = "rows" if length == 1 else f"sequences of {length} env steps"
            raise ValueError(
                f"num_minibatches = {minibatches} is more than the {sequences} {what} of a rollout; lower it"
            )
        return sequences, length

    def learning_mask(self, experience: trajectory.Trajectory) -> tf.Tensor:
        """[B, T, N] bool: the decisions that count, those of living agents outside episode boundaries."""
        inside = ~experience.is_boundary()[..., None]
        alive = experience.observation["alive"]
        return inside & (alive if self.config.death_masking else tf.ones_like(alive))

    # The policy, and how far it has moved.

    def logits(self, experience: trajectory.Trajectory) -> tf.Tensor:
        """[B, T, N, A], masked: of the policy as it is now, on what was seen in a rollout."""
        return self._on_rows(self._compiled_logits, experience)

    def epsilon(self, alive: tf.Tensor) -> tf.Tensor | None:
        """Half-width of the clip range as it is now: [] or [..., 1]; None without one. Args: alive [..., N] bool."""
        return None if self.clip_range is None else self.clip_range(alive, self.progress) * self.epsilon_scale

    def policy_change(self, experience: trajectory.Trajectory) -> diagnostics.PolicyChange:
        """From the policy that collected a rollout to the present one."""
        return diagnostics.PolicyChange(
            old_logits=experience.policy_info["logits"],
            new_logits=self.logits(experience),
            action=experience.action,
            learns=self.learning_mask(experience),
            epsilon=self.epsilon(experience.observation["alive"]),
            ratio=self.ratio,
        )

    @property
    def actor_weights(self) -> list[tf.Variable]:
        """What an update of the actor moves; with a shared torso, the critic's head moves along."""
        return [variable for part in self._parts if part.moves_actor for variable in part.moved]

    def _values(self, experience: trajectory.Trajectory, final_time_step: ts.TimeStep) -> tuple[tf.Tensor, tf.Tensor]:
        """The critic's, [B, T, K], and that of the observation after the last row, [B, K]."""
        _, value, state = self.networks(experience.observation, experience.step_type, self._first_state(experience))
        _, bootstrap_value, _ = self.networks(final_time_step.observation, final_time_step.step_type, state)
        return value, bootstrap_value

    def _logits(self, experience: trajectory.Trajectory) -> tf.Tensor:
        team, *_ = self.networks(experience.observation, experience.step_type, self._first_state(experience))
        return categorical.agent_distribution(team).logits_parameter()

    def _first_state(self, experience: trajectory.Trajectory) -> types.NestedTensor:
        return states_before(experience, self.networks.state_spec)

    def _left(self, schedule: str) -> tf.Tensor:
        return 1.0 - self.progress if schedule == "linear" else tf.constant(1.0)

    # What training asks for.

    @property
    def optimizer_variables(self) -> list[tf.Variable]:
        """Step counts and moments."""
        return [variable for part in self._parts for variable in part.optimizer.variables()]

    @property
    def learning_variables(self) -> list[tf.Variable]:
        return [*self.variables, *self.optimizer_variables]

    def settings(self) -> dict[str, Any]:
        options = fields("ppo", self.config)
        del options["ppo.seed"]  # the run's
        return options

    def memory_per_row(self) -> float:
        widths = [weight.shape[-1] for weight in self.collect_policy.variables() if weight.shape.rank > 1]
        return _HELD_OUTPUTS[self.config.rnn] * sum(widths) / self.config.num_minibatches

    def training_flops(self) -> int:
        """Floating-point operations of an update's matrix products, per row of the rollout."""
        return sum(step.flops() for step in self._steps)

    def batch_facts(self, rollout: Rollout) -> dict[str, tf.Tensor]:
        experience = rollout.experience
        rows = self.batch(*rollout)._asdict()
        seen = rows.pop("observation")
        return {"reward": experience.reward, "logits": experience.policy_info["logits"], **seen, **rows}

    def close_up(self, seen: Mapping[str, np.ndarray], title: str) -> dict[str, Any]:
        from tf_marl.agents.ppo import plots

        rows = int(np.isfinite(seen["ratio_min"]).sum())  # a restraint may have ended the epochs
        seen = {name: values[:rows] for name, values in seen.items()}
        table = plots.epochs_table(seen).to_csv(float_format="%.5g")
        return {"trust_region.csv": table, "trust_region.png": plots.epochs(seen, title)}

    def summary(self, history: list[dict[str, float]], title: str) -> dict[str, Any]:
        import pandas as pd

        from tf_marl.agents.ppo import plots

        updates = [metrics for metrics in history if "trust_region/joint_tv_max" in metrics]
        return {"trust_region.png": plots.trust_region(pd.DataFrame(updates), title)} if updates else {}
