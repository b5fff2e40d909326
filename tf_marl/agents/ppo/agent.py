"""The PPO agent acts, computes advantages, takes policy steps and measures how far the policy moved.

One class serves the whole family of trust regions. An agent is an actor, a critic and the steps of an update
(`step.py`). The algorithms differ in what the critic sees, how the ratio is formed, and how the actor is moved
(`variants.py`, `trust_region.py`).

Shapes: B environments, T steps, N agents, A actions. A rollout is cut into S sequences of L steps: single rows for
feed-forward networks, whole rollouts or chunks of them for recurrent ones. K is N, or 1 where the value and the
advantage are the team's.
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
from tf_marl.agents.ppo.epochs import Epochs, clipped_epochs
from tf_marl.agents.ppo.hooks import Hook, Watch
from tf_marl.agents.ppo.losses import Losses
from tf_marl.agents.ppo.step import Maker, Step, Surroundings
from tf_marl.compile import graph, shards
from tf_marl.config import fields
from tf_marl.networks import Actor, ActorCritic
from tf_marl.networks.layers import spread
from tf_marl.ops import categorical, returns

_ACTOR_LOSSES, _CRITIC_LOSSES = ("loss/policy", "loss/entropy"), ("loss/value",)
# How many times the outputs of all layers, for one minibatch, an update holds in memory, by the kind of network; fitted
# to peaks that were measured on a CPU.
_HELD_OUTPUTS = {"none": 1.2, "gru": 2.7}


class Update(NamedTuple):
    """Holds what one update reports."""

    metrics: Metrics
    advantage: tf.Tensor  # [B, T, K], in units of reward: what the actor learned from, before normalisation
    history: Any  # measurements of `watch`, [num_rounds + 1, ...] each, NaN after an early stop; () without `watch`


class PPOAgent(Learner):
    """Learns by PPO, as a team that TF-Agents sees as one agent with an int32 [N] action.

    `policy` acts greedily and needs only the actor. `collect_policy` samples, and records the masked `logits` it acted
    with and, for recurrent networks, values and recurrent states. A dead agent has one available action, so its ratio
    is 1 and its entropy 0. By default dead agents are left out of all losses and statistics (`death_masking`).

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        networks: actor and critic.
        ratio: one of `surrogate`: (log_prob, old_log_prob), [..., N] each, to ratios [..., N] or, for the team, [...].
        config: the settings of all algorithms.
        full: measures some of the updates in detail.
        make_step: makes the step that moves the actor by itself; None moves it by clipped epochs, in which the critic
            may learn too.
        own_settings: settings of the algorithm alone, as `settings` tells them.
    """

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        networks: ActorCritic,
        ratio: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        config: PPOConfig,
        full: diagnostics.Full | None = None,
        make_step: Maker | None = None,
        own_settings: Mapping[str, Any] | None = None,
    ):
        self.config = config
        self._own_settings = dict(own_settings or {})
        self.networks = networks
        assert networks.critic is not None
        self.actor, self.critic = networks.actor, networks.critic
        self.ratio = ratio
        self.clip_range = config.clip_range
        # A factor on the clip range, which restraints may change.
        self.epsilon_scale = tf.Variable(1.0, trainable=False, name="epsilon_scale")
        self._full = full or diagnostics.Full()
        # A recurrent critic has to run at every step anyway, for its state. Without a GRU it is cheaper to compute the
        # values in one pass over the whole rollout.
        record = ["logits", "value", "policy_state"] if networks.state_spec else ["logits"]
        super().__init__(
            time_step_spec,
            action_spec,
            policy=TeamPolicy(time_step_spec, action_spec, networks.actor, greedy=True),
            collect_policy=RecordingPolicy(time_step_spec, action_spec, networks, record),
            weights={"actor": self.actor, "critic": self.critic},
            watched_policy=RecordingPolicy(time_step_spec, action_spec, networks, ["value"], greedy=True),
        )
        self.jit_compile = jit_compile = config.rnn != "none" if config.jit_compile is None else config.jit_compile
        self._on_rows = shards.on_rows if jit_compile else lambda function, *rows: function(*rows)
        compiled = graph.function(jit_compile=jit_compile)
        self._compiled_values, self._compiled_logits = compiled(self._values), compiled(self._logits)
        self.losses = Losses(networks, ratio, self.epsilon, config)
        self._steps = self._make_steps(make_step)

    def actor_part(self, actor: Actor) -> optimizers.Part:
        """Returns an actor's weights with an optimiser that maximises the surrogate and the entropy bonus.

        Args:
            actor: the team's, or one of a single agent.
        """
        config, variables = self.config, actor.trainable_variables
        optimizer = self._optimizer(config.actor_learning_rate, variables)
        return optimizers.Part("actor", variables, optimizer, self._policy_objective, _ACTOR_LOSSES, actor, True)

    def _critic_part(self) -> optimizers.Part:
        config, variables = self.config, self.critic.trainable_variables
        optimizer = self._optimizer(config.critic_learning_rate, variables)
        return optimizers.Part("critic", variables, optimizer, _value_objective, _CRITIC_LOSSES, self.critic, False)

    def _shared_part(self) -> optimizers.Part:
        """Returns actor and critic, which share a torso, as one part."""
        config, variables = self.config, self.actor_weights

        def objective(losses: Metrics) -> tf.Tensor:
            return self._policy_objective(losses) + config.value_coefficient * _value_objective(losses)

        optimizer, losses = self._optimizer(config.actor_learning_rate, variables), _ACTOR_LOSSES + _CRITIC_LOSSES
        return optimizers.Part("actor_critic", variables, optimizer, objective, losses, self.networks, True)

    def _optimizer(self, rate: float, variables: list[tf.Variable]) -> Any:
        config = self.config
        return optimizers.make(config, lambda: rate * self._left(config.learning_rate_schedule), variables)

    def _policy_objective(self, losses: Metrics) -> tf.Tensor:
        left = self._left(self.config.entropy_schedule)
        return losses["loss/policy"] - self.config.entropy_coefficient * left * losses["loss/entropy"]

    def _make_steps(self, make_step: Maker | None) -> list[Step]:
        """Makes the steps of an update."""
        config, num_critic_epochs = self.config, self.config.num_critic_epochs or self.config.num_epochs

        def epochs(parts: list[optimizers.Part], num_epochs: int) -> Epochs:
            return Epochs(parts, self.losses, num_epochs, config, self.jit_compile)

        if self.networks.shares_torso:
            return [epochs([self._shared_part()], config.num_epochs)]
        if make_step is None and config.order == "together":
            return [epochs([self.actor_part(self.actor), self._critic_part()], config.num_epochs)]
        critic = epochs([self._critic_part()], num_critic_epochs)
        actor = (make_step or clipped_epochs)(self, self.actor, self.losses)
        return [critic, actor] if config.order == "critic_first" else [actor, critic]

    # Learning.

    def learn(self, rollout: Rollout) -> Metrics:
        return self._learn(rollout).metrics

    def is_due(self) -> bool:
        return self._full.due(int(self.train_step_counter))

    def learn_closely(self, rollout: Rollout) -> tuple[Metrics, dict[str, tf.Tensor]]:
        """Updates the weights once, and measures the policy before each epoch and after the last.

        Args:
            rollout: fresh experience, tensors [B, T, ...].
        Returns:
            The scalars that `learn` returns, and measurements by name with a row per epoch and one after the last. The
            metrics of `diagnostics.ratio_sizes` and the share `exact` are [epochs + 1] each. The percentiles of
            `diagnostics.Full.distribution` are [epochs + 1, 101] each. Rows of epochs that a restraint left out are
            NaN.
        """
        seed = tf.random.experimental.stateless_fold_in([self.config.seed, 8], self.train_step_counter)
        update = self._learn(
            rollout, lambda _, change: diagnostics.ratio_sizes(change) | self._full.distribution(change, seed)
        )
        return update.metrics, update.history

    def _learn(self, rollout: Rollout, watch: Callable[..., Any] | None = None) -> Update:
        """Updates the weights and measures how far that moved the policy."""
        experience = rollout.experience
        epsilon = self.epsilon(experience.observation["alive"])  # before restraints change it for the next update
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
        """Updates the weights once, without measuring how far that moved the policy.

        Args:
            experience: [B, T, ...]; its `policy_info` is the collect policy's.
            final_time_step: [B, ...], of the environments after the last row.
            watch: measures the policy before each round of the actor's step and after the update: (rounds so far,
                scalar int32; the change so far) -> a nest of float tensors. None measures nothing. Rounds are the
                actor's epochs, or the turns of agents that learn one after another.
        Returns:
            An `Update`, whose metrics are these scalars.

            - `loss/policy`, `loss/value`, `loss/entropy` (nats): means over the gradient steps.
            - `grad_norm/actor` and `grad_norm/critic`, or `grad_norm/actor_critic` with a shared torso: the gradients'
              norms before clipping, means over the gradient steps.
            - `trust_region/epochs`: how many rounds the actor learned for.
            - What the step that moves the actor tells of itself.
            - With restraints, `trust_region/alpha`, the smallest of their alphas, and the metrics that they record.
        Raises:
            ValueError: the rollout cannot be cut into sequences or minibatches.
        """
        restraints, config = self.config.enforce, self.config
        num_rounds = max(step.num_rounds for step in self._steps if step.moves_actor)
        hooks: list[Hook] = [*restraints, *([Watch(watch, num_rounds)] if watch else [])]
        change = functools.partial(self.policy_change, experience)
        memories = tuple(hook.begin(self, change) for hook in hooks)
        seed = tf.random.experimental.stateless_fold_in([config.seed, 1], self.train_step_counter)
        learns = self.learning_mask(experience)
        metrics: Metrics = {}
        for i, step in enumerate(self._steps):
            if i == 0 or self._steps[i - 1].moves_critic:
                values = self._estimates(experience, final_time_step, critic_is_new=i > 0)
                advantage = self._gae(experience, *values)
                batch = self._cut(experience, advantage, values[0])
            if i == 0:
                self.critic.observe_returns(batch.returns, per_value(batch.learns, batch.returns.shape[-1]))
            if step.moves_actor:
                anew = functools.partial(self._advantages_anew, experience, *values)
                around = Surroundings(self, change, hooks, anew)
                learned, epochs, memories = step(batch, seed, around, memories)
                learned["trust_region/epochs"] = tf.cast(epochs, tf.float32)
            else:
                learned, *_ = step(batch, seed, Surroundings(self, change), ())
            metrics |= learned
        ends = [hook.end(self, change, epochs, memory) for hook, memory in zip(hooks, memories, strict=True)]
        for _, told in ends:
            metrics |= told
        if restraints:
            metrics["trust_region/alpha"] = tf.constant(min(restraint.alpha for restraint in restraints))
        # Observation statistics change only now, so that ratios start from 1 in the first epoch.
        for torso in dict.fromkeys([self.actor.torso, self.critic.torso]):
            torso.observe(experience.observation, learns)
        self.train_step_counter.assign_add(1)
        return Update(metrics, advantage, ends[-1][0] if watch else ())

    # The data that the weights learn from.

    def batch(
        self, experience: trajectory.Trajectory, final_time_step: ts.TimeStep, critic_is_new: bool = False
    ) -> Batch:
        """Computes advantages for a rollout and cuts it into sequences.

        Args:
            experience: [B, T, ...]; its `policy_info` is the collect policy's.
            final_time_step: [B, ...], of the environments after the last row.
            critic_is_new: whether the critic has learned since the rollout, so that recorded values are out of date.
        Returns:
            A batch of S sequences of L steps, [S, L, ...].
        Raises:
            ValueError: the rollout cannot be cut into sequences or minibatches.
        """
        return self._cut(experience, *self.advantages(experience, final_time_step, critic_is_new))

    def _cut(self, experience: trajectory.Trajectory, advantage: tf.Tensor, value: tf.Tensor) -> Batch:
        _, length = self.num_sequences(*experience.reward.shape)
        learns = self.learning_mask(experience)
        return cut(experience, advantage, value, learns, length, self.networks.state_spec)

    def advantages(
        self, experience: trajectory.Trajectory, final_time_step: ts.TimeStep, critic_is_new: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes generalised advantage estimates and the values they are based on.

        Args:
            experience: [B, T, ...]; its `policy_info` is the collect policy's.
            final_time_step: [B, ...], of the environments after the last row.
            critic_is_new: whether the critic has learned since the rollout, so that recorded values are out of date.
        Returns:
            Advantages and values, [B, T, K] each, in units of reward.
        """
        value, bootstrap_value = self._estimates(experience, final_time_step, critic_is_new)
        return self._gae(experience, value, bootstrap_value), value

    def _estimates(
        self, experience: trajectory.Trajectory, final_time_step: ts.TimeStep, critic_is_new: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the values, [B, T, K], and those of the observations after the last row, [B, K]."""
        if critic_is_new or "value" not in experience.policy_info:
            return self._on_rows(self._compiled_values, experience, final_time_step)
        last = tf.nest.map_structure(lambda leaf: leaf[:, -1:], experience)
        _, bootstrap_value = self._compiled_values(last, final_time_step)
        return experience.policy_info["value"], bootstrap_value

    def _gae(
        self,
        experience: trajectory.Trajectory,
        value: tf.Tensor,
        bootstrap_value: tf.Tensor,
        trace: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns generalised advantage estimates, [B, T, K]."""
        return returns.gae(
            experience.reward,
            experience.discount,
            value,
            bootstrap_value,
            self.config.gamma,
            self.config.lambda_,
            boundary=experience.is_boundary(),
            trace=trace,
        )

    def _advantages_anew(
        self, experience: trajectory.Trajectory, value: tf.Tensor, bootstrap_value: tf.Tensor, trace: tf.Tensor
    ) -> tf.Tensor:
        """Returns the normalised advantages, [S, L, K], of traces that are weighted row by row, [S, L]."""
        advantage = self._gae(experience, value, bootstrap_value, tf.reshape(trace, experience.reward.shape))
        return self._cut(experience, advantage, value).advantage

    def check(self, num_envs: int, num_steps: int) -> None:
        self.num_sequences(num_envs, num_steps)

    def num_sequences(self, num_envs: int, num_steps: int) -> tuple[int, int]:
        """Returns S and L: into how many sequences of how many steps a rollout is cut.

        Args:
            num_envs: B, environments in the rollout.
            num_steps: T, env steps per environment.
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
        """Returns which decisions count.

        Those at episode boundaries never count; with `death_masking`, those of dead agents do not count either.

        Args:
            experience: [B, T, ...].
        Returns:
            The mask, [B, T, N] bool.
        """
        inside = ~experience.is_boundary()[..., None]
        alive = experience.observation["alive"]
        return inside & (alive if self.config.death_masking else tf.ones_like(alive))

    # The policy, and how far it has moved.

    def logits(self, experience: trajectory.Trajectory) -> tf.Tensor:
        """Computes the masked logits of the present policy on the observations of a rollout.

        Args:
            experience: [B, T, ...]; for recurrent networks its `policy_info` holds `policy_state`.
        Returns:
            Logits, [B, T, N, A]. Of decisions that do not count they may all be 0.
        """
        return self._on_rows(self._compiled_logits, experience)

    def epsilon(self, alive: tf.Tensor) -> tf.Tensor | None:
        """Returns the present half-width of the clip range.

        Args:
            alive: [..., N] bool.
        Returns:
            Epsilon, scalar or [..., 1]; None without clipping.
        """
        return None if self.clip_range is None else self.clip_range(alive, self.progress) * self.epsilon_scale

    def policy_change(self, experience: trajectory.Trajectory) -> diagnostics.PolicyChange:
        """Returns the change from the policy that collected a rollout to the present one.

        Args:
            experience: [B, T, ...]; its `policy_info` is the collect policy's.
        Returns:
            A `PolicyChange` whose logits are [B, T, N, A].
        """
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
        """Returns the weights that an update of the actor moves; with a shared torso they include the critic's head."""
        actors = self.actor.trainable_variables
        if not self.networks.shares_torso:
            return actors
        critics = self.critic.trainable_variables
        return [*actors, *(variable for variable in critics if not any(variable is shared for shared in actors))]

    def _values(self, experience: trajectory.Trajectory, final_time_step: ts.TimeStep) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the critic's values, [B, T, K], and those of the observations after the last row, [B, K]."""
        observation = experience.observation
        decisions = self.networks.decisions(observation["alive"]) if self.critic.fills_dead else None
        if decisions is None:
            _, value, state = self.networks(observation, experience.step_type, self._first_state(experience))
        else:
            (_, value), state = self.networks.of_decisions(decisions, observation), ()
        _, bootstrap_value, _ = self.networks(final_time_step.observation, final_time_step.step_type, state)
        return value, bootstrap_value

    def _logits(self, experience: trajectory.Trajectory) -> tf.Tensor:
        learns = self.learning_mask(experience)
        decisions = self.networks.decisions(learns)
        if decisions is not None:
            agents, _ = self.networks.of_decisions(decisions, experience.observation)
            return spread(agents.logits_parameter(), decisions, learns.shape)
        team, *_ = self.networks(experience.observation, experience.step_type, self._first_state(experience))
        return categorical.agent_distribution(team).logits_parameter()

    def _first_state(self, experience: trajectory.Trajectory) -> types.NestedTensor:
        return states_before(experience, self.networks.state_spec)

    def _left(self, schedule: str) -> tf.Tensor:
        return 1.0 - self.progress if schedule == "linear" else tf.constant(1.0)

    # What training, checkpoints and benchmarks ask for.

    @property
    def optimizer_variables(self) -> list[tf.Variable]:
        """Returns the optimisers' own variables: step counts and moments."""
        return [variable for step in self._steps for variable in step.optimizer_variables]

    @property
    def learning_variables(self) -> list[tf.Variable]:
        return [*self.variables, *self.optimizer_variables]

    def settings(self) -> dict[str, Any]:
        options = fields("ppo", self.config)
        del options["ppo.seed"]  # recorded as the run's seed
        return options | self._own_settings

    def memory_per_row(self) -> float:
        widths = [weight.shape[-1] for weight in self.collect_policy.variables() if weight.shape.rank > 1]
        return _HELD_OUTPUTS[self.config.rnn] * sum(widths) / min(step.num_minibatches for step in self._steps)

    def training_flops(self, experience: trajectory.Trajectory) -> float:
        """Returns the floating-point operations of the matrix products with which an update learns from a rollout.

        Args:
            experience: [B, T, ...].
        """
        learns = self.learning_mask(experience)
        leaves_out = not self.jit_compile and self.networks.decisions(learns) is not None
        share = float(tf.reduce_mean(tf.cast(learns, tf.float32))) if leaves_out else 1.0
        return share * experience.reward.shape.num_elements() * sum(step.flops() for step in self._steps)

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


def _value_objective(losses: Metrics) -> tf.Tensor:
    return losses["loss/value"]
