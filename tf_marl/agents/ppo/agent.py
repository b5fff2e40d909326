"""Decentralised PPO, top to bottom: act, advantage, loss, update.

One learner for the whole family. An agent is an actor, a critic and an optimiser for each; what tells IPPO, MAPPO and
JR-PPO apart is what the critic sees and how the ratio is formed (`variants.py`).

Shapes: B environments, T steps, N agents, A actions; S sequences of L steps, which a rollout is cut into: single rows
for feed-forward networks, whole rollouts or chunks of them for recurrent ones. K is N, or 1 where the ratio, the value
and the advantage are the team's.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from tf_marl import diagnostics
from tf_marl.agents.policy import RecordingPolicy, TeamPolicy
from tf_marl.agents.ppo.config import PPOConfig
from tf_marl.compile import graph, shards
from tf_marl.networks import ActorCritic, training_flops
from tf_marl.ops import categorical, returns, surrogate

Metrics = dict[str, tf.Tensor]


class Batch(NamedTuple):
    """A rollout with advantages, in sequences: every field [S, L, ...], but for `state`."""

    observation: dict[str, tf.Tensor]
    step_type: tf.Tensor  # [S, L] int32
    state: types.NestedTensor  # [S, N, H] each: the recurrent states before each sequence
    action: tf.Tensor  # [S, L, N] int32
    old_log_prob: tf.Tensor  # [S, L, N]
    old_value: tf.Tensor  # [S, L, K]
    advantage: tf.Tensor  # [S, L, K], normalised over what `learns` admits
    returns: tf.Tensor  # [S, L, K]
    learns: tf.Tensor  # [S, L, N] bool: a living agent, not at the boundary of two episodes


# (epochs that the actor has learned for, [] int32; the change so far) -> a nest of float tensors
Watch: TypeAlias = Callable[[tf.Tensor, diagnostics.PolicyChange], Any]


class Update(NamedTuple):
    """What there is to tell of an update."""

    metrics: Metrics  # scalars
    advantage: tf.Tensor  # [B, T, K], in units of reward: what the actor learned from, before it was normalised
    history: Any  # what `watch` made of the policy, [num_epochs + 1, ...], NaN after an early stop; () without one


class Phase(NamedTuple):
    """Epochs in a row, for which the advantages stay as they are."""

    learners: tuple[str, ...]  # the optimisers at work: actor, critic, or one for both
    num_epochs: int
    moves_actor: bool
    gradients: Callable[..., tuple[Metrics, dict[str, list[tf.Tensor]]]]  # compiled; of a shard


class PPOAgent(tf_agent.TFAgent):
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
    """

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        networks: ActorCritic,
        ratio: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        config: PPOConfig,
    ):
        self.config = config
        self.networks = networks
        self.actor, self.critic = networks.actor, networks.critic
        self.ratio = ratio
        # How much of training is done, in [0, 1]; whoever runs the training keeps it up to date.
        self.progress = tf.Variable(0.0, trainable=False, name="progress")
        # What enforcement makes of the clip range.
        self.epsilon_scale = tf.Variable(1.0, trainable=False, name="epsilon_scale")
        self._learners = self._make_learners()
        jit_compile = config.rnn != "none" if config.jit_compile is None else config.jit_compile
        self._on_shards = shards.side_by_side if jit_compile else lambda function, *rows: [function(*rows)]
        compiled = graph.function(jit_compile=jit_compile)
        self._compiled_values, self._compiled_logits = compiled(self._values), compiled(self._logits)

        def phase(learners: Iterable[str], num_epochs: int | None) -> Phase:
            learners = tuple(learners)
            moves_actor = learners != ("critic",)
            return Phase(learners, num_epochs or config.num_epochs, moves_actor, compiled(self._gradients(learners)))

        if config.order == "critic_first":
            self._phases = [phase(["critic"], config.num_critic_epochs), phase(["actor"], config.num_epochs)]
        else:
            self._phases = [phase(self._learners, config.num_epochs)]
        # Recurrent critics run along anyway; a value from others is cheaper in one pass over the rollout.
        record = ["logits", "value", "policy_state"] if networks.state_spec else ["logits"]
        # What the greedy one does, and the critic's value with it.
        self.watched_policy = RecordingPolicy(time_step_spec, action_spec, networks, ["value"], greedy=True)
        super().__init__(
            time_step_spec,
            action_spec,
            policy=TeamPolicy(time_step_spec, action_spec, networks.actor, greedy=True),
            collect_policy=RecordingPolicy(time_step_spec, action_spec, networks, record),
            train_sequence_length=None,
            train_step_counter=tf.Variable(0, dtype=tf.int64, trainable=False, name="train_step"),
        )

    def update(
        self,
        experience: trajectory.Trajectory,
        final_time_step: ts.TimeStep,
        watch: Watch | None = None,
    ) -> Update:
        """One PPO update from a fresh rollout.

        Args:
            experience: [B, T, ...]; `policy_info` is the collect policy's.
            final_time_step: [B, ...], what the environments showed after the last row.
            watch: is shown the policy before each of the actor's epochs and after the update; returns float tensors.
        Returns:
            Its metrics, averaged over the gradient steps, are `loss/policy`, `loss/value`, `loss/entropy` (nats),
            `grad_norm/actor`, `grad_norm/critic` or, of a shared torso, `grad_norm/actor_critic` (before clipping);
            `trust_region/epochs`, how many epochs the actor learned for; and, where rules hold the trust region, the
            least `trust_region/alpha` of them and what they record.
        Raises:
            ValueError: see `num_sequences`.
        """
        metrics: Metrics = {}
        history: Any = ()
        before = [tf.identity(weight) for weight in self.actor_weights] if self.config.enforce else []
        for i, phase in enumerate(self._phases):
            batch = self.batch(experience, final_time_step, critic_is_new=i > 0)
            if i == 0:
                self.critic.observe_returns(batch.returns, self._per_value(batch.learns))
            if phase.moves_actor:
                learned, epochs, history = self._learn(batch, phase, experience, watch)
                learned["trust_region/epochs"] = tf.cast(epochs, tf.float32)
            else:
                learned, *_ = self._learn(batch, phase)
            metrics |= learned
        for rule in self.config.enforce:
            metrics |= rule.settle(self, experience, before)
        if self.config.enforce:
            metrics["trust_region/alpha"] = tf.constant(min(rule.alpha for rule in self.config.enforce))
        if watch and self.config.enforce:
            epochs = tf.cast(metrics["trust_region/epochs"], tf.int32)
            history = _put(history, epochs, watch(epochs, self.policy_change(experience)))
        # Not before, so that ratios start from 1; the next rollout is collected with the new statistics.
        learns = self.learning_mask(experience)
        for torso in dict.fromkeys([self.actor.torso, self.critic.torso]):
            torso.observe(experience.observation, learns)
        self.train_step_counter.assign_add(1)
        advantage = tf.reshape(batch.returns - batch.old_value, [*experience.reward.shape, -1])
        return Update(metrics, advantage, history)

    @property
    def optimizer_variables(self) -> list[tf.Variable]:
        """Step counts and moments; `variables` has the rest of what an update changes."""
        return [variable for optimizer, _ in self._learners.values() for variable in optimizer.variables()]

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

    def logits(self, experience: trajectory.Trajectory) -> tf.Tensor:
        """[B, T, N, A], masked: of the policy as it is now, on what was seen in a rollout."""
        return shards.concat(self._on_shards(self._compiled_logits, experience))

    def epsilon(self, alive: tf.Tensor) -> tf.Tensor:
        """Half-width of the clip range as it is now: [] or [..., 1]. Args: alive [..., N] bool."""
        return self.config.clip_range(alive, self.progress) * self.epsilon_scale

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
        return self._learners["actor_critic" if self.networks.shares_torso else "actor"][1]

    def training_flops(self) -> int:
        """Floating-point operations of an update's matrix products, per row of the rollout."""
        parts = {"actor": self.actor, "critic": self.critic, "actor_critic": self.networks}
        return sum(phase.num_epochs * training_flops(parts[n]) for phase in self._phases for n in phase.learners)

    def _train(self, experience: trajectory.Trajectory, weights=None) -> tf_agent.LossInfo:
        """TF-Agents' way in: [B, T + 1] rows, of which the last only lends its observation's value."""
        del weights
        final = ts.TimeStep(
            step_type=experience.step_type[:, -1],
            reward=experience.reward[:, -1],
            discount=experience.discount[:, -1],
            observation={name: leaf[:, -1] for name, leaf in experience.observation.items()},
        )
        metrics = self.update(tf.nest.map_structure(lambda leaf: leaf[:, :-1], experience), final).metrics
        return tf_agent.LossInfo(loss=metrics["loss/policy"] + metrics["loss/value"], extra=metrics)

    # The advantages.

    def batch(
        self, experience: trajectory.Trajectory, final_time_step: ts.TimeStep, critic_is_new: bool = False
    ) -> Batch:
        """A rollout with advantages, cut into sequences.

        Args:
            experience, final_time_step: as for `update`.
            critic_is_new: whether it has learned since the rollout, so that values on record are not its own.
        """
        if critic_is_new or "value" not in experience.policy_info:
            values = self._on_shards(self._compiled_values, experience, final_time_step)
            value, bootstrap_value = shards.concat(values)
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
        learns = self.learning_mask(experience)
        old = categorical.agent_distribution(categorical.team_distribution(experience.policy_info["logits"]))
        num_sequences, length = self.num_sequences(*experience.reward.shape)
        batch = Batch(
            observation=experience.observation,
            step_type=experience.step_type,
            state=self._states(experience, every=length),
            action=experience.action,
            old_log_prob=old.log_prob(experience.action),
            old_value=value,
            advantage=surrogate.normalise(advantage, self._per_value(learns)),
            returns=advantage + value,
            learns=learns,
        )
        rows = tf.nest.map_structure(
            lambda leaf: tf.reshape(leaf, [num_sequences, length, *leaf.shape[2:]]), batch._replace(state=())
        )
        return rows._replace(state=batch.state)

    def _states(self, experience: trajectory.Trajectory, every: int | None) -> types.NestedTensor:
        """The recurrent states before every so many steps, [S, N, H] each; before the first alone if None."""

        def before(leaf: tf.Tensor) -> tf.Tensor:
            return tf.reshape(leaf[:, ::every] if every else leaf[:, 0], [-1, *leaf.shape[2:]])

        return tf.nest.map_structure(before, experience.policy_info.get("policy_state", self.networks.state_spec))

    def _values(self, experience: trajectory.Trajectory, final_time_step: ts.TimeStep) -> tuple[tf.Tensor, tf.Tensor]:
        """The critic's, [B, T, K], and that of the observation after the last row, [B, K]."""
        _, value, state = self.networks(experience.observation, experience.step_type, self._states(experience, None))
        _, bootstrap_value, _ = self.networks(final_time_step.observation, final_time_step.step_type, state)
        return value, bootstrap_value

    def _logits(self, experience: trajectory.Trajectory) -> tf.Tensor:
        team, *_ = self.networks(experience.observation, experience.step_type, self._states(experience, None))
        return categorical.agent_distribution(team).logits_parameter()

    def _per_value(self, mask: tf.Tensor) -> tf.Tensor:
        """[..., N] bool -> [..., K]: the team counts where any of its agents does."""
        return tf.reduce_any(mask, axis=-1, keepdims=True) if self.critic.team else mask

    # The losses.

    def losses(self, batch: Batch) -> Metrics:
        """What is minimised, and the entropy: means over the decisions in a batch that count.

        Returns: scalars `loss/policy`, the clipped surrogate; `loss/value`; `loss/entropy` in nats.
        """
        return self._losses(batch, _shares(self._per_value(batch.learns)), _shares(batch.learns))

    def _losses(self, batch: Batch, share: tf.Tensor, agent_share: tf.Tensor) -> Metrics:
        """`losses`, of a shard. Args: share [S, L, K] and agent_share [S, L, N], of each decision in the mean."""
        team, value, _ = self.networks(batch.observation, batch.step_type, batch.state)
        agents = categorical.agent_distribution(team)
        ratio = self.ratio(agents.log_prob(batch.action), batch.old_log_prob)
        ratio = tf.reshape(ratio, tf.shape(batch.advantage))  # the team's is [S, L]
        gain = surrogate.clipped_surrogate(ratio, batch.advantage, self.epsilon(batch.observation["alive"]))
        return {
            "loss/policy": -_sum(gain, share),
            "loss/value": _sum(self._value_loss(value, batch), share),
            "loss/entropy": _sum(agents.entropy(), agent_share),
        }

    def _value_loss(self, value: tf.Tensor, batch: Batch) -> tf.Tensor:
        """[S, L, K], in the units that the critic's head learns."""
        value, old_value, target = map(self.critic.normalise, (value, batch.old_value, batch.returns))

        def loss(value: tf.Tensor) -> tf.Tensor:
            if self.config.value_loss == "huber":
                return surrogate.huber_value_loss(value, target, self.config.huber_delta)
            return surrogate.squared_value_loss(value, target)

        if self.config.value_clip is None:
            return loss(value)
        return tf.maximum(loss(value), loss(surrogate.clip_value(value, old_value, self.config.value_clip)))

    def _objective(self, losses: Metrics, learner: str) -> tf.Tensor:
        """What an optimiser minimises."""
        left = self._left(self.config.entropy_schedule)
        policy = losses["loss/policy"] - self.config.entropy_coefficient * left * losses["loss/entropy"]
        both = policy + self.config.value_coefficient * losses["loss/value"]
        return {"actor": policy, "critic": losses["loss/value"], "actor_critic": both}[learner]

    # The update.

    @graph.converted
    def _learn(
        self,
        batch: Batch,
        phase: Phase,
        experience: trajectory.Trajectory | None = None,
        watch: Watch | None = None,
    ) -> tuple[Metrics, tf.Tensor, Any]:
        """The epochs of a phase; where the actor moves, the rollout is given, to stop early by and to be watched on.

        Returns: means over the gradient steps, the number of epochs, and what was watched.
        """
        num_sequences, num_minibatches = batch.action.shape[0], self.config.num_minibatches
        size = num_sequences // num_minibatches
        seed = tf.random.experimental.stateless_fold_in([self.config.seed, 1], self.train_step_counter)
        names = [name for learner in phase.learners for name in (*_LOSSES[learner], f"grad_norm/{learner}")]
        totals = dict.fromkeys(names, tf.constant(0.0))
        rules = self.config.enforce if phase.moves_actor else ()
        epochs = tf.constant(0)
        history = _rows(watch(epochs, self.policy_change(experience)), phase.num_epochs + 1) if watch else ()
        for epoch in tf.range(phase.num_epochs):
            chance = tf.random.stateless_uniform([num_sequences], tf.random.experimental.stateless_fold_in(seed, epoch))
            order = tf.argsort(chance)[: size * num_minibatches]  # XLA knows no stateless_shuffle
            for rows in tf.reshape(order, [num_minibatches, size]):
                step = self._gradient_step(_take(batch, rows) if num_minibatches > 1 else batch, phase)
                totals = {name: total + step[name] for name, total in totals.items()}
            epochs += 1
            if watch:
                history = _put(history, epochs, watch(epochs, self.policy_change(experience)))
            if rules and tf.reduce_any([rule.stops(self, experience) for rule in rules]):
                break
        num_steps = tf.cast(epochs * num_minibatches, tf.float32)
        return {name: total / num_steps for name, total in totals.items()}, epochs, history

    def _gradient_step(self, batch: Batch, phase: Phase) -> Metrics:
        share, agent_share = _shares(self._per_value(batch.learns)), _shares(batch.learns)
        parts = self._on_shards(phase.gradients, batch, share, agent_share)
        losses, gradients = tf.nest.map_structure(lambda *leaves: tf.add_n(leaves), *parts)
        for learner in phase.learners:
            optimizer, variables = self._learners[learner]
            clipped, norm = _clip(gradients[learner], self.config.max_grad_norm)
            optimizer.apply_gradients(zip(clipped, variables, strict=True))
            losses[f"grad_norm/{learner}"] = norm
        return losses

    def _gradients(self, learners: tuple[str, ...]) -> Callable[..., tuple[Metrics, dict[str, list[tf.Tensor]]]]:
        def of_shard(batch: Batch, share: tf.Tensor, agent_share: tf.Tensor):
            with tf.GradientTape() as tape:
                losses = self._losses(batch, share, agent_share)
                objective = tf.add_n([self._objective(losses, learner) for learner in learners])
            losses = {name: losses[name] for learner in learners for name in _LOSSES[learner]}
            return losses, tape.gradient(objective, {name: self._learners[name][1] for name in learners})

        return of_shard

    def _left(self, schedule: str) -> tf.Tensor:
        return 1.0 - self.progress if schedule == "linear" else tf.constant(1.0)

    def _make_learners(self) -> dict[str, tuple[tf.keras.optimizers.Optimizer, list[tf.Variable]]]:
        """Optimisers and what they optimise."""
        config = self.config
        rates = {"actor": config.actor_learning_rate, "critic": config.critic_learning_rate}
        variables = {"actor": self.actor.trainable_variables, "critic": self.critic.trainable_variables}
        if self.networks.shares_torso:
            rates = {"actor_critic": config.actor_learning_rate}
            own = [v for v in variables["critic"] if not any(v is shared for shared in variables["actor"])]
            variables = {"actor_critic": [*variables["actor"], *own]}
        return {name: (self._optimizer(rate, variables[name]), variables[name]) for name, rate in rates.items()}

    def _optimizer(self, learning_rate: float, variables: list[tf.Variable]) -> tf.keras.optimizers.Optimizer:
        """Its variables are made at once: a checkpoint of an agent that has not learned yet has a place for them, and
        the first update is traced but once."""
        rate = _Rate(lambda: learning_rate * self._left(self.config.learning_rate_schedule))
        if self.config.optimizer == "adamw":
            optimizer = tf.keras.optimizers.AdamW(rate, self.config.weight_decay, epsilon=self.config.adam_epsilon)
            optimizer.build(variables)
            return optimizer
        # Keras' legacy Adam is one fused op per variable; the newer one is many small ones.
        optimizer = tf.keras.optimizers.legacy.Adam(rate, epsilon=self.config.adam_epsilon)
        optimizer._create_all_weights(variables)
        return optimizer


# What is told of each optimiser's steps; nothing else need be computed for them.
_LOSSES = {"actor": ("loss/policy", "loss/entropy"), "critic": ("loss/value",)}
_LOSSES["actor_critic"] = _LOSSES["actor"] + _LOSSES["critic"]


class _Rate(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that goes by the agent's progress, not by the optimiser's count of steps."""

    def __init__(self, rate: Callable[[], tf.Tensor]):
        self._rate = rate

    def __call__(self, step: Any) -> tf.Tensor:
        return self._rate()


def _take(batch: Batch, rows: tf.Tensor) -> Batch:
    return tf.nest.map_structure(lambda leaf: tf.gather(leaf, rows), batch)


def _rows(first: Any, num_rows: int) -> Any:
    """Room for so many of a nest of float tensors, the first of them in it and NaN in the others."""
    return tf.nest.map_structure(
        lambda leaf: tf.concat([leaf[None], tf.fill([num_rows - 1, *leaf.shape], math.nan)], axis=0), first
    )


def _put(rows: Any, index: tf.Tensor, row: Any) -> Any:
    return tf.nest.map_structure(lambda all_, one: tf.tensor_scatter_nd_update(all_, [[index]], [one]), rows, row)


def _shares(mask: tf.Tensor) -> tf.Tensor:
    """What each entry that the mask admits contributes to a mean, float; the shards of a batch add up to it."""
    counts = tf.cast(mask, tf.float32)
    return tf.math.divide_no_nan(counts, tf.reduce_sum(counts))


def _sum(x: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.where(share > 0.0, x, 0.0) * share)  # what is hidden may be inf or NaN


def _clip(gradients: list[tf.Tensor], max_norm: float | None) -> tuple[list[tf.Tensor], tf.Tensor]:
    """The gradients, clipped if so wished, and their norm before that."""
    norm = tf.linalg.global_norm(gradients)
    return (gradients if max_norm is None else tf.clip_by_global_norm(gradients, max_norm, norm)[0]), norm
