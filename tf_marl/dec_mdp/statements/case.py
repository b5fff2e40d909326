"""What a statement speaks of, and what it is to read one."""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.dec_mdp import exact, model
from tf_marl.dec_mdp.generators import Instances
from tf_marl.ops import surrogate, total_variation

TOLERANCE = 1e-9  # of rounding; all quantities are of order 1
_HORIZON = 32  # steps of an undiscounted rollout


class Claim(NamedTuple):
    """lhs <= rhs, at each of B instances and perhaps at each of several places in it; [B, ...] each."""

    lhs: tf.Tensor
    rhs: tf.Tensor

    @property
    def slack(self) -> tf.Tensor:
        """The least of rhs - lhs in each instance, [B]; below 0 the claim is false."""
        gap = self.rhs - self.lhs
        return tf.reduce_min(tf.reshape(gap, [tf.shape(gap)[0], -1]), axis=1)

    @property
    def used(self) -> tf.Tensor:
        """The most of lhs / rhs in each instance, [B]: 1 where the bound is reached; NaN where all bounds are 0."""
        used = tf.where(self.rhs > 1e-6, self.lhs / self.rhs, np.nan)
        return tf.constant(np.fmax.reduce(used.numpy().reshape(len(used), -1), axis=1))


class Case:
    """Instances, and what the statements speak of; each quantity is computed once, when first asked for."""

    def __init__(self, instances: Instances):
        self.mdp, self.old_policy, self.new_policy = instances
        self.num_agents = self.mdp.num_agents
        self.old_team, self.new_team = (model.team_logits(self.mdp, policy) for policy in instances[1:])
        self.horizon = 1.0 - self.mdp.gamma  # [B]; a return times this is a mean reward

    @cached_property
    def old(self) -> exact.Evaluation:
        return exact.evaluate(self.mdp, self.old_team)

    @cached_property
    def new(self) -> exact.Evaluation:
        return exact.evaluate(self.mdp, self.new_team)

    @cached_property
    def agent_tv(self) -> tf.Tensor:
        """[B, S, N]."""
        return total_variation.agent_tv(self.old_team, self.new_team)

    @cached_property
    def agent_tv_max(self) -> tf.Tensor:
        """[B, N], over states."""
        return tf.reduce_max(self.agent_tv, axis=1)

    @cached_property
    def joint_tv(self) -> tf.Tensor:
        """[B, S]."""
        return total_variation.joint_tv_exact(self.old_team, self.new_team)

    @cached_property
    def alpha(self) -> tf.Tensor:
        """[B], the largest joint total variation over states."""
        return tf.reduce_max(self.joint_tv, axis=1)

    @cached_property
    def states(self) -> tf.Tensor:
        """[B, S], the discounted state distribution, normalised."""
        return self.horizon[:, None] * self.old.visits

    @cached_property
    def log_probs(self) -> tuple[tf.Tensor, tf.Tensor]:
        """New and old, of each agent's part in every joint action, [B, S, J, N] each."""
        actions = model.joint_actions(self.num_agents, self.mdp.num_actions)
        return model.log_prob(self.new_team, actions), model.log_prob(self.old_team, actions)

    @cached_property
    def ratio(self) -> tf.Tensor:
        """[B, S, J, N], the agents' own."""
        return surrogate.independent_ratio(*self.log_probs)

    @cached_property
    def deviation(self) -> tf.Tensor:
        """[B, S, N], each agent's largest |ratio - 1| over its actions."""
        return tf.reduce_max(tf.abs(self.ratio - 1.0), axis=2)

    @cached_property
    def advantage_max(self) -> tf.Tensor:
        """[B], max |A| over states and joint actions."""
        return tf.reduce_max(tf.abs(self.old.advantage), axis=[1, 2])

    @cached_property
    def gain(self) -> tf.Tensor:
        """[B], the joint policy's improvement times 1 - gamma."""
        return self.horizon * (self.new.eta - self.old.eta)

    def joint_surrogate(self, states: tf.Tensor) -> tf.Tensor:
        """[B], sum_s w(s) sum_a pi~(a | s) A(s, a). Args: states [B, S], w."""
        return tf.reduce_sum(states[..., None] * self.new.policy * self.old.advantage, axis=[1, 2])

    @cached_property
    def independent_surrogate(self) -> tf.Tensor:
        """[B], sum_k E[(ratio_k - 1) A]."""
        weight = (self.states[..., None] * self.old.policy * self.old.advantage)[..., None]
        return tf.reduce_sum(weight * (self.ratio - 1.0), axis=[1, 2, 3])

    def penalty(self, alpha: tf.Tensor, advantage_max: tf.Tensor | None = None) -> tf.Tensor:
        """[B], 4 max|A| gamma / (1 - gamma) alpha^2: the theorem's, times 1 - gamma."""
        largest = self.advantage_max if advantage_max is None else advantage_max
        return 4.0 * largest * self.mdp.gamma / self.horizon * tf.square(alpha)

    @cached_property
    def interaction(self) -> tf.Tensor:
        """[B], max|A| (prod_k (1 + 2 TV_k) - 1 - 2 sum_k TV_k): how far the joint surrogate may be from the agents'."""
        tv = 2.0 * self.agent_tv
        return self.advantage_max * tf.reduce_max(tf.reduce_prod(1.0 + tv, -1) - 1.0 - tf.reduce_sum(tv, -1), axis=1)

    @cached_property
    def rollout_states(self) -> tf.Tensor:
        """[B, S], the mean over an undiscounted rollout of the old policy, as PPO takes it."""
        at = self.mdp.start[:, None]
        total = at
        for _ in range(_HORIZON - 1):
            at = at @ self.old.kernel
            total += at
        return total[:, 0] / _HORIZON

    def local(self, agent: int) -> exact.Local:
        """What an agent sees under the old policy."""
        return exact.local(self.mdp, self.old, self.old.visits, agent)

    @cached_property
    def locals(self) -> list[exact.Local]:
        return [self.local(agent) for agent in range(self.num_agents)]

    def objective(self, advantage: tf.Tensor, epsilon: float) -> tf.Tensor:
        """[B], IPPO's and MAPPO's: sum_k E[clipped surrogate]. Args: advantage, [B, S, J, N] or [B, S, J, 1]."""
        terms = surrogate.clipped_surrogate(self.ratio, advantage, epsilon)
        return tf.reduce_sum((self.states[..., None] * self.old.policy)[..., None] * terms, axis=[1, 2, 3])

    @cached_property
    def marginal_advantage(self) -> tf.Tensor:
        """[B, S, J, N]: each agent's A_k(o_k, a_k), IPPO's once its critic has converged."""
        return exact.spread(self.mdp, [local.advantage for local in self.locals])

    @cached_property
    def sees_all(self) -> bool:
        """Whether every agent sees the whole state."""
        return self.mdp.num_local_states == self.mdp.num_states


class Condition(NamedTuple):
    """Under which a reading that fails elsewhere may hold."""

    text: str
    holds: Callable[[Case], tf.Tensor]  # [B] bool


class Reading(NamedTuple):
    """One way to read one statement."""

    statement: str
    name: str
    check: Callable[[Case], Claim]
    condition: Condition | None = None


def _all(case: Case, holds: bool) -> tf.Tensor:
    return tf.fill(tf.shape(case.mdp.gamma), holds)


ALONE = Condition("one agent alone changes", lambda case: tf.math.count_nonzero(case.agent_tv_max > 1e-12, axis=1) <= 1)
SEES_ALL = Condition("every agent sees the whole state", lambda case: _all(case, case.sees_all))
ONE_AGENT = Condition("there is one agent", lambda case: _all(case, case.num_agents == 1))
ONE_STATE = Condition("there is one state", lambda case: _all(case, case.mdp.num_states == 1))


def identity(difference: tf.Tensor) -> Claim:
    """difference = 0, everywhere."""
    return Claim(tf.abs(difference), tf.zeros_like(difference))
