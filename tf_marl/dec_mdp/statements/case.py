"""This module computes the quantities that the paper's statements are about, and defines claims and readings.

Shapes: B instances, S states, N agents, O local states, A actions of one agent, J = A^N joint actions.
"""

import functools
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.dec_mdp import exact, model
from tf_marl.dec_mdp.generators import Instances
from tf_marl.ops import surrogate, total_variation

TOLERANCE = 1e-9  # violations below this may be rounding errors; all quantities are of order 1
_HORIZON = 32  # steps of an undiscounted rollout


class Claim(NamedTuple):
    """Holds both sides of `lhs <= rhs` for B instances, perhaps for several states or agents in each, [B, ...]."""

    lhs: tf.Tensor
    rhs: tf.Tensor

    @property
    def slack(self) -> tf.Tensor:
        """Returns the smallest `rhs - lhs` in each instance, [B]. The claim is false where it is negative."""
        gap = self.rhs - self.lhs
        return tf.reduce_min(tf.reshape(gap, [tf.shape(gap)[0], -1]), axis=1)

    @property
    def used(self) -> tf.Tensor:
        """Returns the largest `lhs / rhs` in each instance, [B]: 1 where the bound is tight, NaN if all rhs are 0."""
        used = tf.where(self.rhs > 1e-6, self.lhs / self.rhs, np.nan)
        return tf.constant(np.fmax.reduce(used.numpy().reshape(len(used), -1), axis=1))


class Case:
    """Holds B instances and the quantities that statements are about. Each is computed when it is first asked for.

    The old and the new policy are `pi` and `pi~` in formulas.
    """

    def __init__(self, instances: Instances):
        self.mdp, self.old_policy, self.new_policy = instances
        self.num_agents = self.mdp.num_agents
        self.old_team, self.new_team = (model.team_logits(self.mdp, policy) for policy in instances[1:])
        self.memo: dict[Callable[[Case], tf.Tensor], tf.Tensor] = {}  # of `once`
        self.horizon = 1.0 - self.mdp.gamma  # [B]; turns returns into mean rewards: the effective horizon's inverse

    @cached_property
    def old(self) -> exact.Evaluation:
        """Returns the exact evaluation of the old policy: values [B, S], advantages [B, S, J], visits [B, S]."""
        return exact.evaluate(self.mdp, self.old_team)

    @cached_property
    def new(self) -> exact.Evaluation:
        """Returns the exact evaluation of the new policy: values [B, S], advantages [B, S, J], visits [B, S]."""
        return exact.evaluate(self.mdp, self.new_team)

    @cached_property
    def agent_tv(self) -> tf.Tensor:
        """Returns each agent's total variation between old and new policy at every state, [B, S, N]."""
        return total_variation.agent_tv(self.old_team, self.new_team)

    @cached_property
    def agent_tv_max(self) -> tf.Tensor:
        """Returns each agent's largest total variation over states, [B, N]."""
        return tf.reduce_max(self.agent_tv, axis=1)

    @cached_property
    def joint_tv(self) -> tf.Tensor:
        """Returns the exact total variation between old and new joint policy at every state, [B, S]."""
        return total_variation.joint_tv_exact(self.old_team, self.new_team)

    @cached_property
    def alpha(self) -> tf.Tensor:
        """Returns the largest joint total variation over states, [B]."""
        return tf.reduce_max(self.joint_tv, axis=1)

    @cached_property
    def states(self) -> tf.Tensor:
        """Returns the old policy's discounted state distribution, normalised to sum to 1, [B, S]."""
        return self.horizon[:, None] * self.old.visits

    @cached_property
    def log_probs(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns new and old log probabilities of each agent's own action in every joint action, [B, S, J, N] each."""
        actions = model.joint_actions(self.num_agents, self.mdp.num_actions)
        return model.log_prob(self.new_team, actions), model.log_prob(self.old_team, actions)

    @cached_property
    def ratio(self) -> tf.Tensor:
        """Returns each agent's own ratio, new over old probability, for every joint action, [B, S, J, N]."""
        return surrogate.independent_ratio(*self.log_probs)

    @cached_property
    def deviation(self) -> tf.Tensor:
        """Returns each agent's largest `|ratio - 1|` over its actions, [B, S, N]."""
        return tf.reduce_max(tf.abs(self.ratio - 1.0), axis=2)

    @cached_property
    def advantage_max(self) -> tf.Tensor:
        """Returns the largest absolute advantage over states and joint actions, `max|A|`, [B]."""
        return tf.reduce_max(tf.abs(self.old.advantage), axis=[1, 2])

    @cached_property
    def gain(self) -> tf.Tensor:
        """Returns the true improvement of the return times 1 - gamma, [B]."""
        return self.horizon * (self.new.eta - self.old.eta)

    def joint_surrogate(self, states: tf.Tensor) -> tf.Tensor:
        """Computes the surrogate objective of the joint policy.

            sum_s w(s) sum_a pi~(a | s) A(s, a)

        Args:
            states: w, the weight of each state, [B, S].

        Returns:
            The surrogate, [B].
        """
        return tf.reduce_sum(states[..., None] * self.new.policy * self.old.advantage, axis=[1, 2])

    @cached_property
    def independent_surrogate(self) -> tf.Tensor:
        """Returns the sum of the agents' independent surrogates without clipping, `sum_k E[(ratio_k - 1) A]`, [B].

        The expectation is over the old policy's discounted states and joint actions.
        """
        return tf.reduce_sum(self.mixed_surrogate[:, :, 0], axis=1)

    def penalty(self, alpha: tf.Tensor, advantage_max: tf.Tensor | None = None) -> tf.Tensor:
        """Computes the penalty of Theorems 1 and 2 times 1 - gamma.

            4 max|A| gamma / (1 - gamma) alpha^2

        Args:
            alpha: total variation, [B].
            advantage_max: the largest absolute advantage, [B]; None for that of the joint policy.

        Returns:
            The penalty, [B].
        """
        largest = self.advantage_max if advantage_max is None else advantage_max
        return 4.0 * largest * self.mdp.gamma / self.horizon * tf.square(alpha)

    @cached_property
    def mixed_advantage(self) -> tf.Tensor:
        """Returns each agent's advantages for all mixtures of old and new others (`exact.mixed_advantages`).

        [B, S, N, M, A]; mixture 0 has all others old.
        """
        return exact.mixed_advantages(self.old, self.old_team, self.new_team)

    @cached_property
    def mixed_surrogate(self) -> tf.Tensor:
        """Returns each agent's surrogate for all mixtures of old and new others, `sum_s w(s) E_pi~_k[A_k(s, a_k; T)]`.

        The states have the old policy's discounted distribution. [B, N, M]; mixture 0 has all others old.
        """
        return tf.einsum("bs,bsna,bsnma->bnm", self.states, tf.nn.softmax(self.new_team), self.mixed_advantage)

    @cached_property
    def mixed_advantage_max(self) -> tf.Tensor:
        """Returns each agent's largest `|A_k(s_k, a_k; T)|` for all mixtures of old and new others, [B, N, M].

        The advantage of a local state is the mean over the states behind it, by the old policy's visits.
        """
        largest = []
        for k in range(self.num_agents):
            given = exact.given_local(self.mdp, self.states, k)
            local = tf.einsum("bso,bsma->boma", given, self.mixed_advantage[:, :, k])
            largest.append(tf.reduce_max(tf.abs(local), axis=[1, 3]))
        return tf.stack(largest, axis=1)

    @cached_property
    def tv_before(self) -> tf.Tensor:
        """Returns the total variation between old and new policy of the agents before each one, jointly, [B, S, N]."""
        before = [tf.zeros_like(self.joint_tv)]
        for k in range(1, self.num_agents):
            old, new = (exact.joint_policy(team[:, :, :k]) for team in (self.old_team, self.new_team))
            before.append(0.5 * tf.reduce_sum(tf.abs(new - old), axis=-1))
        return tf.stack(before, axis=-1)

    @cached_property
    def interaction(self) -> tf.Tensor:
        """Returns a bound on how far the joint surrogate is from the sum of the independent ones, [B].

            4 max|A| max_s sum_k TV_k TV_<k

        `TV_<k` is the joint total variation of the agents before k.
        """
        products = tf.reduce_sum(self.agent_tv * self.tv_before, axis=-1)
        return 4.0 * self.advantage_max * tf.reduce_max(products, axis=1)

    @cached_property
    def rollout_states(self) -> tf.Tensor:
        """Returns the old policy's state distribution over undiscounted rollouts of 32 steps, as in PPO, [B, S]."""
        at = self.mdp.start[:, None]
        total = at
        for _ in range(_HORIZON - 1):
            at = at @ self.old.kernel
            total += at
        return total[:, 0] / _HORIZON

    def local(self, agent: int) -> exact.Local:
        """Returns one agent's view of the old policy: values [B, O], advantages [B, O, A]."""
        return exact.local(self.mdp, self.old, self.old.visits, agent)

    @cached_property
    def locals(self) -> list[exact.Local]:
        """Returns every agent's view of the old policy: values [B, O], advantages [B, O, A] each."""
        return [self.local(agent) for agent in range(self.num_agents)]

    def objective(self, advantage: tf.Tensor, epsilon: float) -> tf.Tensor:
        """Computes the clipped objective of IPPO or MAPPO: the sum over agents of the expected clipped surrogate.

        Args:
            advantage: each agent's own advantage for IPPO, [B, S, J, N], or the team's for MAPPO, [B, S, J, 1].
            epsilon: half-width of the clip range; infinite for no clipping.

        Returns:
            The objective, [B].
        """
        terms = surrogate.clipped_surrogate(self.ratio, advantage, epsilon)
        return tf.reduce_sum((self.states[..., None] * self.old.policy)[..., None] * terms, axis=[1, 2, 3])

    @cached_property
    def marginal_advantage(self) -> tf.Tensor:
        """Returns each agent's own advantage, `A_k(o_k, a_k)`, [B, S, J, N]: IPPO's once its critics have converged."""
        return exact.spread(self.mdp, [local.advantage for local in self.locals])

    @cached_property
    def rewards_states(self) -> bool:
        """Returns whether the rewards depend on the state alone, in all instances."""
        return bool(np.all(self.mdp.reward == self.mdp.reward[..., :1]))

    @cached_property
    def sees_all(self) -> bool:
        """Returns whether every agent sees the whole state."""
        return self.mdp.num_local_states == self.mdp.num_states


def once(quantity: Callable[[Case], tf.Tensor]) -> Callable[[Case], tf.Tensor]:
    """Makes a function of a case compute its result once for each case.

    Args:
        quantity: a function of a case alone; returns a tensor of any shape.
    """

    @functools.wraps(quantity)
    def remembered(case: Case) -> tf.Tensor:
        if quantity not in case.memo:
            case.memo[quantity] = quantity(case)
        return case.memo[quantity]

    return remembered


class Condition(NamedTuple):
    """Describes a condition under which a reading may hold that is violated elsewhere."""

    text: str
    holds: Callable[[Case], tf.Tensor]  # [B] bool


class Stratum(NamedTuple):
    """Describes a kind of Dec-MDP. A reading that has one is tried in such Dec-MDPs only."""

    name: str
    holds: Callable[[Case], bool]


class Reading(NamedTuple):
    """Describes one way to understand one statement of the paper, and how to check it."""

    statement: str  # such as "Theorem 2"
    name: str  # of this reading, for people
    check: Callable[[Case], Claim]
    condition: Condition | None = None  # expected to be needed
    repair: str = ""  # name of the reading that holds in its place, if this one is refuted
    stratum: Stratum | None = None  # None: all Dec-MDPs

    @property
    def key(self) -> tuple[str, str, str]:
        """Returns the statement, the reading's name and its stratum's, empty for all Dec-MDPs: no two are equal."""
        return self.statement, self.name, self.stratum.name if self.stratum else ""

    def covers(self, case: Case) -> bool:
        """Returns whether the reading is about such Dec-MDPs."""
        return self.stratum is None or self.stratum.holds(case)


def _all(case: Case, holds: bool) -> tf.Tensor:
    return tf.fill(tf.shape(case.mdp.gamma), holds)


ALONE = Condition("one agent alone changes", lambda case: tf.math.count_nonzero(case.agent_tv_max > 1e-12, axis=1) <= 1)
SEES_ALL = Condition("every agent sees the whole state", lambda case: _all(case, case.sees_all))
ONE_AGENT = Condition("there is one agent", lambda case: _all(case, case.num_agents == 1))
ONE_STATE = Condition("there is one state", lambda case: _all(case, case.mdp.num_states == 1))


def identity(difference: tf.Tensor) -> Claim:
    """Makes the claim that a quantity is 0 everywhere, as `|difference| <= 0`.

    Args:
        difference: the quantity, [B, ...].

    Returns:
        The claim, [B, ...].
    """
    return Claim(tf.abs(difference), tf.zeros_like(difference))
