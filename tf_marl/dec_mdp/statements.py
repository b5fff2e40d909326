"""The paper's statements as checks: each says lhs <= rhs of an instance, a Dec-MDP with an old and a new policy.

Statements of Sun et al., "Trust Region Bounds for Decentralized PPO Under Non-stationarity" (AAMAS 2023, arXiv
2202.00082), by its numbers, **as we read them**: the text itself was not at hand when this was written, so what stands
here is put together from this project's notes on it. Least sure of all are what Propositions 1, 3 and 4 and equation 9
say word for word. Wherever words leave a choice (whose state distribution, whose advantage, epsilon over what) each
reading is a row with a name, and they are reported apart. Rows of "sharper facts" and those marked (ours) are no claims
of the paper.

Theorem 1 is Schulman et al. 2015's Theorem 1, for the team's joint policy as one agent's; with one agent it is theirs:

    eta(pi~) >= eta(pi) + sum_s rho(s) sum_a pi~(a | s) A(s, a) - 4 max|A| gamma / (1 - gamma)^2 alpha^2

alpha is the largest total variation over states. Returns enter times 1 - gamma, so that rows compare.
"""

import itertools
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.dec_mdp import exact, model
from tf_marl.dec_mdp.generators import Instances
from tf_marl.ops import surrogate, total_variation

TOLERANCE = 1e-9  # of rounding; all quantities are of order 1
_CLIP = 0.1  # epsilon, where a reading clips
_HORIZON = 32  # steps of an undiscounted rollout
_SEEN = 0.9  # share of the visits that a rollout's states and joint actions make up


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


def _identity(difference: tf.Tensor) -> Claim:
    return Claim(tf.abs(difference), tf.zeros_like(difference))


# Proposition 1: the transition shift and its parts


def _one_after_another(case: Case) -> Claim:
    teams = [exact.moved(case.old_team, case.new_team, list(range(k))) for k in range(case.num_agents + 1)]
    steps = [exact.transition_shift(case.mdp, *pair) for pair in itertools.pairwise(teams)]
    return _identity(exact.transition_shift(case.mdp, case.old_team, case.new_team) - tf.add_n(steps))


def _alone(case: Case, agent: int) -> tf.Tensor:
    return exact.moved(case.old_team, case.new_team, [agent])


def _endogenous_and_exogenous(case: Case) -> Claim:
    whole = exact.transition_shift(case.mdp, case.old_team, case.new_team)
    differences = []
    for k in range(case.num_agents):
        endogenous = exact.transition_shift(case.mdp, case.old_team, _alone(case, k))
        exogenous = exact.transition_shift(case.mdp, _alone(case, k), case.new_team)
        differences.append(whole - endogenous - exogenous)
    return _identity(tf.stack(differences, axis=1))


def _each_alone(case: Case) -> Claim:
    parts = [exact.transition_shift(case.mdp, case.old_team, _alone(case, k)) for k in range(case.num_agents)]
    return _identity(exact.transition_shift(case.mdp, case.old_team, case.new_team) - tf.add_n(parts))


def _shift_size(case: Case) -> Claim:
    shift = exact.transition_shift(case.mdp, case.old_team, case.new_team)
    return Claim(0.5 * tf.reduce_sum(tf.abs(shift), axis=-1), tf.reduce_sum(case.agent_tv, axis=-1))


def _exogenous_size(case: Case) -> Claim:
    sizes, bounds = [], []
    for k in range(case.num_agents):
        shift = exact.transition_shift(case.mdp, _alone(case, k), case.new_team)
        sizes.append(0.5 * tf.reduce_sum(tf.abs(shift), axis=-1))
        bounds.append(tf.reduce_sum(case.agent_tv, axis=-1) - case.agent_tv[..., k])
    return Claim(tf.stack(sizes, axis=1), tf.stack(bounds, axis=1))


def _local_shift(own_states: bool) -> Callable[[Case], Claim]:
    def check(case: Case) -> Claim:
        weight = case.new.visits if own_states else case.old.visits
        after = [exact.local(case.mdp, case.new, weight, k).kernel for k in range(case.num_agents)]
        shift = tf.stack([new - old.kernel for new, old in zip(after, case.locals, strict=True)], axis=1)
        bound = tf.reduce_max(tf.reduce_sum(case.agent_tv, axis=-1), axis=1)[:, None, None]
        return Claim(0.5 * tf.reduce_sum(tf.abs(shift), axis=-1), bound)

    return check


# Proposition 3 and what lies between total variations and returns


def _tv_by_ratio(case: Case) -> Claim:
    weighted = case.old.policy[..., None] * tf.abs(case.ratio - 1.0)
    return _identity(case.agent_tv - 0.5 * tf.reduce_sum(weighted, axis=2))


def _state_distribution(alpha: Callable[[Case], tf.Tensor]) -> Callable[[Case], Claim]:
    def check(case: Case) -> Claim:
        moved = 0.5 * case.horizon * tf.reduce_sum(tf.abs(case.new.visits - case.old.visits), axis=1)
        return Claim(moved, case.mdp.gamma / case.horizon * alpha(case))

    return check


# Theorems 1 and 2


def _bound(
    alpha: Callable[[Case], tf.Tensor],
    surrogate: Callable[[Case], tf.Tensor] = lambda case: case.joint_surrogate(case.states),
    advantage_max: Callable[[Case], tf.Tensor | None] = lambda case: None,
    more: Callable[[Case], tf.Tensor] = lambda case: tf.zeros_like(case.alpha),
) -> Callable[[Case], Claim]:
    """gain >= surrogate - penalty - more, as: surrogate - gain <= penalty + more."""

    def check(case: Case) -> Claim:
        penalty = case.penalty(alpha(case), advantage_max(case))
        return Claim(surrogate(case) - case.gain, penalty + more(case))

    return check


def _achiam(case: Case) -> Claim:
    expected = tf.reduce_sum(case.new.policy * case.old.advantage, axis=2)
    largest = tf.reduce_max(tf.abs(expected), axis=1)
    mean_tv = tf.reduce_sum(case.states * case.joint_tv, axis=1)
    rhs = 2.0 * case.mdp.gamma / case.horizon * largest * mean_tv
    return Claim(case.joint_surrogate(case.states) - case.gain, rhs)


def _performance_difference(case: Case) -> Claim:
    gain = tf.reduce_sum(case.new.visits[..., None] * case.new.policy * case.old.advantage, axis=[1, 2])
    return _identity(case.gain - case.horizon * gain)


def _marginal_advantage_max(case: Case) -> tf.Tensor:
    return tf.reduce_max([tf.reduce_max(tf.abs(local.advantage), axis=[1, 2]) for local in case.locals], axis=0)


def _sum_alpha(case: Case) -> tf.Tensor:
    return tf.reduce_sum(case.agent_tv_max, axis=1)


def _independent(case: Case) -> tf.Tensor:
    return case.independent_surrogate


# Equation 9


def _improves(surrogate: Callable[[Case], tf.Tensor], alpha: Callable[[Case], tf.Tensor]) -> Callable[[Case], Claim]:
    """Where the surrogate exceeds the penalty, the return rises: not both of them positive."""

    def check(case: Case) -> Claim:
        both = tf.minimum(surrogate(case) - case.penalty(alpha(case)), -case.gain)
        return Claim(both, tf.zeros_like(both))

    return check


# Theorem 3


def _mean_deviation(case: Case) -> tf.Tensor:
    weighted = case.states[..., None, None] * case.old.policy[..., None] * tf.abs(case.ratio - 1.0)
    return tf.reduce_sum(weighted, axis=[1, 2, 3])


def _visited_deviation(case: Case) -> tf.Tensor:
    """[B], the largest sum_k |ratio_k - 1| over those states and joint actions that make up most of the visits."""
    probability = case.states[..., None] * case.old.policy
    shape = [tf.shape(probability)[0], -1]
    flat, deviation = (tf.reshape(x, shape) for x in (probability, tf.reduce_sum(tf.abs(case.ratio - 1.0), axis=-1)))
    order = tf.argsort(flat, direction="DESCENDING")
    flat, deviation = (tf.gather(x, order, batch_dims=1) for x in (flat, deviation))
    seen = tf.cumsum(flat, axis=1, exclusive=True) < _SEEN
    return tf.reduce_max(tf.where(seen, deviation, 0.0), axis=1)


def _above(case: Case) -> tf.Tensor:
    """[B, S, N], each agent's largest ratio - 1: what is left if ratios are bounded from above alone."""
    return tf.maximum(tf.reduce_max(case.ratio - 1.0, axis=2), 0.0)


# Section 6.3 and Proposition 4


def _surrogates_equal(epsilon: float) -> Callable[[Case], Claim]:
    def check(case: Case) -> Claim:
        mappo = case.objective(case.old.advantage[..., None], epsilon)
        return _identity(case.objective(case.marginal_advantage, epsilon) - mappo)

    return check


def _clipped_mappo_below_ippo(case: Case) -> Claim:
    mappo = case.objective(case.old.advantage[..., None], _CLIP)
    return Claim(mappo, case.objective(case.marginal_advantage, _CLIP))


def _bootstrapped_surrogates_equal(case: Case) -> Claim:
    advantages = [exact.bootstrapped(case.mdp, case.old, case.old.visits, k)[1] for k in range(case.num_agents)]
    ippo = case.objective(exact.spread(case.mdp, advantages), np.inf)
    return _identity(ippo - case.objective(case.old.advantage[..., None], np.inf))


def _first_order(case: Case) -> Claim:
    """The gradients at the old policy of the return and of the independent surrogates, [B, N, O, A] each."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(case.old_policy)
        at = Case(Instances(case.mdp, case.old_policy, case.old_policy))
        eta = at.horizon * at.old.eta
        still = tf.stop_gradient(at.states[..., None] * at.old.policy)[..., None]
        terms = surrogate.clipped_surrogate(at.ratio, case.marginal_advantage, np.inf)
        objective = tf.reduce_sum(still * terms, axis=[1, 2, 3])
    return _identity(tape.gradient(eta, case.old_policy) - tape.gradient(objective, case.old_policy))


def _advantage_mean(case: Case) -> Claim:
    """sum_a_k pi_k(a_k | o) A_k(o, a_k), of every agent and local state."""
    policy = tf.nn.softmax(case.old_policy)
    advantage = tf.stack([local.advantage for local in case.locals], axis=1)
    return _identity(tf.reduce_sum(policy * advantage, axis=-1))


def _marginal_return(case: Case) -> Claim:
    returns = [tf.reduce_sum(local.weight * local.reward, axis=1) for local in case.locals]
    return _identity(case.horizon[:, None] * (tf.stack(returns, axis=1) - case.old.eta[:, None]))


def _local_flow(case: Case) -> Claim:
    """rho_k(o') = rho_0(o') + gamma sum_o rho_k(o) P_k(o' | o)."""
    differences = []
    for k, local in enumerate(case.locals):
        seen = tf.one_hot(case.mdp.observation[:, k], case.mdp.num_local_states, dtype=local.weight.dtype)
        arriving = case.mdp.gamma[:, None] * (local.weight[:, None] @ local.kernel)[:, 0]
        differences.append(case.horizon[:, None] * (local.weight - case.mdp.start @ seen - arriving))
    return _identity(tf.stack(differences, axis=1))


def _local_bellman(case: Case) -> Claim:
    differences = []
    for local in case.locals:
        later = case.mdp.gamma[:, None] * (local.kernel @ local.value[..., None])[..., 0]
        differences.append(case.horizon[:, None] * (local.value - local.reward - later))
    return _identity(tf.stack(differences, axis=1))


READINGS = (
    Reading("Proposition 1", "shift = its parts, agents changing one after another", _one_after_another),
    Reading("Proposition 1", "shift = endogenous + exogenous part, for each agent", _endogenous_and_exogenous),
    Reading("Proposition 1", "shift = sum of each agent's, the others as before", _each_alone, ALONE),
    Reading("Proposition 1", "size of the shift <= sum_k TV_k at every state", _shift_size),
    Reading("Proposition 1", "exogenous part <= sum of the others' TV at every state", _exogenous_size),
    Reading("Proposition 1", "local kernels, old state distribution: shift <= sum_k TV_k", _local_shift(False)),
    Reading("Proposition 1", "local kernels, each its own state distribution", _local_shift(True), SEES_ALL),
    Reading(
        "Proposition 2",
        "joint TV <= sum_k TV_k at every state",
        lambda case: Claim(case.joint_tv, tf.reduce_sum(case.agent_tv, axis=-1)),
    ),
    Reading(
        "Proposition 2", "largest joint TV <= sum_k largest TV_k", lambda case: Claim(case.alpha, _sum_alpha(case))
    ),
    Reading("Proposition 3", "TV_k = 1/2 E|ratio_k - 1|", _tv_by_ratio),
    Reading(
        "Proposition 3",
        "state distributions: TV <= gamma / (1 - gamma) joint TV",
        _state_distribution(lambda case: case.alpha),
    ),
    Reading(
        "Proposition 3",
        "state distributions, largest TV of one agent for the joint one",
        _state_distribution(lambda case: tf.reduce_max(case.agent_tv_max, axis=1)),
        ALONE,
    ),
    Reading(
        "Theorem 1",
        "joint policy; alpha = largest joint TV, as certificate/joint_lower_bound",
        _bound(lambda case: case.alpha),
    ),
    Reading(
        "Theorem 1",
        "alpha = mean of joint TV over states",
        _bound(lambda case: tf.reduce_sum(case.states * case.joint_tv, axis=1)),
        ONE_STATE,
    ),
    Reading("Theorem 2", "joint surrogate; alpha = sum_k largest TV_k", _bound(_sum_alpha)),
    Reading(
        "Theorem 2",
        "joint surrogate; alpha = largest TV of one agent",
        _bound(lambda case: tf.reduce_max(case.agent_tv_max, axis=1)),
        ALONE,
    ),
    Reading("Theorem 2", "independent surrogates; alpha = sum_k largest TV_k", _bound(_sum_alpha, _independent), ALONE),
    Reading(
        "Theorem 2",
        "independent surrogates; alpha = largest joint TV, as certificate/lower_bound",
        _bound(lambda case: case.alpha, _independent),
        ALONE,
    ),
    Reading(
        "Theorem 2",
        "independent surrogates, less the interaction term (ours)",
        _bound(lambda case: case.alpha, _independent, more=lambda case: case.interaction),
    ),
    Reading(
        "Theorem 2",
        "joint surrogate; max |A_k| of marginal advantages",
        _bound(_sum_alpha, advantage_max=_marginal_advantage_max),
        ONE_AGENT,
    ),
    Reading(
        "Theorem 2",
        "joint surrogate over undiscounted states, as PPO takes them",
        _bound(_sum_alpha, lambda case: case.joint_surrogate(case.rollout_states)),
        ONE_STATE,
    ),
    Reading(
        "Equation 9", "sum_k largest TV_k <= alpha: joint TV <= alpha", lambda case: Claim(case.alpha, _sum_alpha(case))
    ),
    Reading(
        "Equation 9",
        "every TV_k <= alpha / N: joint TV <= alpha",
        lambda case: Claim(case.alpha, case.num_agents * tf.reduce_max(case.agent_tv_max, axis=1)),
    ),
    Reading(
        "Equation 9",
        "sum_k TV_k <= alpha on average over states",
        lambda case: Claim(case.alpha, tf.reduce_sum(case.states[..., None] * case.agent_tv, axis=[1, 2])),
        ONE_STATE,
    ),
    Reading(
        "Equation 9",
        "joint surrogate > penalty: the return rises",
        _improves(lambda case: case.joint_surrogate(case.states), _sum_alpha),
    ),
    Reading(
        "Equation 9", "independent surrogates > penalty: the return rises", _improves(_independent, _sum_alpha), ALONE
    ),
    Reading(
        "Theorem 3",
        "ratios at every state and action: joint TV <= sum_k max |ratio_k - 1|",
        lambda case: Claim(case.joint_tv, tf.reduce_sum(case.deviation, axis=-1)),
    ),
    Reading(
        "Theorem 3",
        "ratios on average over states and actions",
        lambda case: Claim(case.alpha, _mean_deviation(case)),
        ONE_STATE,
    ),
    Reading(
        "Theorem 3",
        f"ratios at the states and actions of {_SEEN:.0%} of the visits",
        lambda case: Claim(case.alpha, _visited_deviation(case)),
    ),
    Reading("Section 6.3", "unclipped surrogates equal, critics = marginals", _surrogates_equal(np.inf)),
    Reading(
        "Section 6.3", f"surrogates clipped at {_CLIP} equal, critics = marginals", _surrogates_equal(_CLIP), ONE_AGENT
    ),
    Reading("Section 6.3", f"clipped at {_CLIP}: MAPPO's <= IPPO's (ours)", _clipped_mappo_below_ippo),
    Reading(
        "Section 6.3",
        "unclipped surrogates equal, IPPO's critic = its own Bellman fixed point",
        _bootstrapped_surrogates_equal,
        SEES_ALL,
    ),
    Reading("Section 6.3", "gradient at the old policy = the return's", _first_order),
    Reading("Proposition 4", "marginal advantages have mean 0", _advantage_mean),
    Reading("Proposition 4", "marginal rewards and visits give the return", _marginal_return),
    Reading("Proposition 4", "marginal visits flow by the local kernel", _local_flow),
    Reading("Proposition 4", "marginal values solve the local Bellman equation", _local_bellman, SEES_ALL),
    Reading("Sharper facts", "performance difference lemma", _performance_difference),
    Reading(
        "Sharper facts",
        "ratios in [1 - eps, 1 + eps]: TV_k <= eps / 2",
        lambda case: Claim(case.agent_tv, 0.5 * case.deviation),
    ),
    Reading(
        "Sharper facts",
        "ratios at most 1 + eps: TV_k <= eps",
        lambda case: Claim(case.agent_tv, _above(case)),
    ),
    Reading(
        "Sharper facts",
        "ratios at most 1 + eps: TV_k <= eps / 2",
        lambda case: Claim(case.agent_tv, 0.5 * _above(case)),
    ),
    Reading(
        "Sharper facts",
        "ratios in [1 - eps_k, 1 + eps_k]: joint TV <= 1 - prod_k (1 - eps_k / 2)",
        lambda case: Claim(case.joint_tv, total_variation.product_bound(0.5 * case.deviation)),
    ),
    Reading(
        "Sharper facts",
        "joint TV <= 1 - prod_k (1 - TV_k)",
        lambda case: Claim(case.joint_tv, total_variation.joint_tv_product_bound(case.old_team, case.new_team)),
    ),
    Reading(
        "Sharper facts",
        "1 - prod_k (1 - TV_k) <= sum_k TV_k",
        lambda case: Claim(
            total_variation.joint_tv_product_bound(case.old_team, case.new_team),
            total_variation.joint_tv_sum_bound(case.old_team, case.new_team),
        ),
    ),
    Reading(
        "Sharper facts",
        "max_k TV_k <= joint TV",
        lambda case: Claim(total_variation.joint_tv_lower_bound(case.old_team, case.new_team), case.joint_tv),
    ),
    Reading("Sharper facts", "improvement: 2 gamma / (1 - gamma)^2 max|E A| mean TV (Achiam et al. 2017)", _achiam),
)
