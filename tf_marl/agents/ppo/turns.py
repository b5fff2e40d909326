"""Agents learn one after another: in its turn, each knows how the agents before it have changed.

    agent k maximises   E[M min(r_k A, clip(r_k, 1 - eps, 1 + eps) A)],   M = prod of r_j of the agents j before it

This is HAPPO (Kuba et al. 2022). A is an estimate of the team's advantage. The joint surrogate E[(prod_k r_k - 1) A] is
the sum of what the turns gain, in every order. A2PO (Wang et al. 2023) differs in three points:

- M is clipped itself, and the clip range is around M r_k: min(M r_k A, clip(M r_k, 1 - eps, 1 + eps) A).
- A is estimated anew before each turn, for the team so far: traces have the weight min(1, prod of r_j) at each step.
- Clip ranges are narrower for the first agents, which would use up the trust region.

An agent with weights of its own learns as a team of one: its weights and its optimiser's moments are put into a small
network, which a step of any kind moves, and are put back. M is computed once per turn then. If agents share weights,
a turn changes the agents before it once more. Then M is computed anew before every gradient step.
"""

import math
from typing import Annotated, Literal

import pydantic
import tensorflow as tf

from tf_marl.agents.ppo.batch import Batch
from tf_marl.agents.ppo.losses import Losses
from tf_marl.agents.ppo.step import Learning, Maker, Surroundings
from tf_marl.compile import graph, shards
from tf_marl.config import STRICT
from tf_marl.networks import Actor, ActorCritic
from tf_marl.ops import categorical, masked

Order = Literal["random", "semi_greedy"]


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class TurnRules:
    """Holds how agents take turns; the defaults are HAPPO's."""

    # Whose turn is next: anybody's, or in turn the agent with the largest mean |A| and anybody (A2PO's semi-greedy).
    order: Order = "random"
    corrects_advantage: bool = False  # whether A is estimated anew for the team so far
    # Half-width of M's own clip range; the agent's clip range is around M r_k then. None clips r_k alone.
    others_clip: Annotated[float, pydantic.Field(gt=0, lt=1)] | None = None
    # Share of the clip range that the first of many agents has; it grows linearly to 1 for the last.
    first_clip_share: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0


class Turns(tf.Module):
    """Lets one agent after another take a step.

    It records the step's metrics as means over the turns, and `trust_region/joint_ratio_mean`, the mean over states of
    the product of all ratios, which is 1 up to chance.

    Args:
        agent: the agent that learns.
        actor: the team's network.
        losses: of the team, with a ratio per agent.
        rules: how agents take turns.
        make_step: makes the step that one agent takes.
    """

    moves_actor, moves_critic = True, False

    def __init__(self, agent: Learning, actor: Actor, losses: Losses, rules: TurnRules, make_step: Maker):
        super().__init__("turns")
        self.num_rounds = num_agents = actor.torso.num_agents
        self._team, self._rules = actor, rules
        self._clip_share = tf.Variable(1.0, trainable=False, name="clip_share")

        def epsilon(alive: tf.Tensor) -> tf.Tensor | None:
            usual = agent.epsilon(alive)
            return None if usual is None else usual * self._clip_share

        self._has_own_weights = actor.torso.has_own_weights
        networks = ActorCritic(actor.alone()) if self._has_own_weights else losses.networks
        self._learner = networks.actor
        self._losses = Losses(networks, losses.ratio, epsilon, agent.config)
        self._step = make_step(agent, networks.actor, self._losses)
        self.names = (*self._step.names, "trust_region/joint_ratio_mean")
        self.num_minibatches = self._step.num_minibatches
        self._on_rows = shards.on_rows if agent.jit_compile else lambda function, *rows: function(*rows)
        self._log_ratios = graph.function(self._log_ratios_of_rows, jit_compile=agent.jit_compile)
        self._moments = []
        if self._has_own_weights:
            self._moments = [
                tf.Variable(tf.stack([variable] * num_agents), trainable=False)
                for variable in self._step.optimizer_variables
            ]

    @property
    def optimizer_variables(self) -> list[tf.Variable]:
        """Returns the optimiser's step counts and moments, of each agent."""
        return self._moments if self._has_own_weights else self._step.optimizer_variables

    @graph.converted
    def __call__(self, batch, seed, around, memories):
        chance = tf.random.stateless_uniform([self.num_rounds], tf.random.experimental.stateless_fold_in(seed, -1))
        totals = dict.fromkeys(self._step.names, tf.constant(0.0))
        waits = tf.ones([self.num_rounds], tf.bool)
        log_mass = tf.zeros_like(batch.old_log_prob[..., :1])  # log M, [S, L, 1]
        turns = tf.constant(0)
        for turn in tf.range(self.num_rounds):
            told_of = batch
            if self._rules.corrects_advantage:
                told_of = batch._replace(advantage=around.advantages(tf.exp(tf.minimum(log_mass[..., 0], 0.0))))
            agent = self._next(turn, waits, chance, told_of)
            self._clip_share.assign(self._clip_share_of(turn))
            # The first turn has the update's seed, so that a team of one learns as it would without turns.
            own_seed = seed + tf.cast(tf.stack([0, turn]), seed.dtype)
            told, log_mass, waits = self._turn(told_of, own_seed, around, agent, log_mass, waits)
            totals = {name: total + told[name] for name, total in totals.items()}
            turns += 1
            memories, stops = around.after_round(turns, memories)
            if stops:
                break
        learned = {name: total / tf.cast(turns, tf.float32) for name, total in totals.items()}
        states = tf.reduce_any(batch.learns, axis=-1, keepdims=True)
        learned["trust_region/joint_ratio_mean"] = masked.mean(tf.exp(log_mass), states)
        return learned, turns, memories

    def flops(self) -> int:
        """Returns the floating-point operations of the turns' matrix products, per row if all its decisions count."""
        return self._step.flops() * (self.num_rounds if self._has_own_weights else 1)

    def _turn(self, batch, seed, around, agent, log_mass, waits):
        """Lets an agent learn.

        Returns:
            The step's metrics, log M for the next agent, [S, L, 1], and who still waits, [N] bool.
        """
        is_agent = tf.range(self.num_rounds) == agent
        quiet = Surroundings(around.agent, around.change)
        if self._has_own_weights:
            self._load(agent)
            own = batch.of_agent(agent)
            told, *_ = self._step(self._weighted(own, log_mass), seed, quiet, ())
            self._store(agent)
            return told, log_mass + self._on_rows(self._log_ratios, own), waits & ~is_agent

        def prepare(rows: Batch) -> Batch:
            before = rows._replace(learns=rows.alive & ~waits)
            return self._weighted(rows, self._on_rows(self._log_ratios, before))

        own = batch._replace(learns=batch.learns & is_agent)
        told, *_ = self._step(own, seed, quiet._replace(prepare=prepare), ())
        waits &= ~is_agent
        return told, self._on_rows(self._log_ratios, batch._replace(learns=batch.learns & ~waits)), waits

    def _pairs(self) -> list[tuple[tf.Variable, tf.Variable]]:
        """Returns the variables of which each agent has its own: the team's, [N, ...], and the learner's, [...].

        In a team of one, weights of both have the same shape.
        """
        return [
            *zip(self._team.trainable_variables, self._learner.trainable_variables, strict=True),
            *zip(self._moments, self._step.optimizer_variables, strict=True),
        ]

    def _load(self, agent: tf.Tensor) -> None:
        for team, learner in self._pairs():
            own = team if team.shape == learner.shape else tf.gather(team, agent)
            learner.assign(tf.reshape(own, learner.shape))
        # Statistics of the observations are everybody's.
        statistics = self._team.non_trainable_variables, self._learner.non_trainable_variables
        for team, learner in zip(*statistics, strict=True):
            learner.assign(team)

    def _store(self, agent: tf.Tensor) -> None:
        for team, learner in self._pairs():
            if team.shape == learner.shape:
                team.assign(learner)
            else:
                team.scatter_update(tf.IndexedSlices(tf.reshape(learner, [1, *team.shape[1:]]), agent[None]))

    def _weighted(self, batch: Batch, log_mass: tf.Tensor) -> Batch:
        """Brings M into the surrogate of a batch, [S, L, ...], by an equal one: M min(r A, ..) = min(r M A, ..)."""
        clip = self._rules.others_clip
        if clip is None:
            return batch._replace(advantage=batch.advantage * tf.exp(log_mass))
        log_mass = tf.clip_by_value(log_mass, math.log1p(-clip), math.log1p(clip))
        return batch._replace(old_log_prob=batch.old_log_prob - log_mass)  # the ratio becomes M r

    def _log_ratios_of_rows(self, batch: Batch) -> tf.Tensor:
        """Returns the logarithm of the product of the ratios that count, [S, L, 1]."""
        agents = categorical.distribution(self._losses.logits(batch))
        log_ratio = tf.where(batch.learns, agents.log_prob(batch.action) - batch.old_log_prob, 0.0)
        return tf.stop_gradient(tf.reduce_sum(log_ratio, axis=-1, keepdims=True))

    def _next(self, turn: tf.Tensor, waits: tf.Tensor, chance: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Returns whose turn is next, a scalar int32."""
        score = chance
        if self._rules.order == "semi_greedy":
            size = tf.broadcast_to(tf.abs(batch.advantage), tf.shape(batch.learns))
            score = tf.where(turn % 2 == 0, masked.mean(size, batch.learns, axis=(0, 1)), chance)
        return tf.argmax(tf.where(waits, score, -1.0), output_type=tf.int32)

    def _clip_share_of(self, turn: tf.Tensor) -> tf.Tensor:
        """Returns the share of the clip range in the turn with this index: w + (1 - w) k / N in A2PO, k from 1."""
        first = self._rules.first_clip_share
        return first + (1.0 - first) * tf.cast(turn + 1, tf.float32) / self.num_rounds


def in_turns(rules: TurnRules, make_step: Maker) -> Maker:
    """Returns a maker of a step in which agents take turns.

    Args:
        rules: how they take turns.
        make_step: makes the step that one agent takes.
    """
    return lambda agent, actor, losses: Turns(agent, actor, losses, rules, make_step)
