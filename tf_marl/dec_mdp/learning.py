"""This module trains IPPO, MAPPO, joint-ratio PPO and HAPPO on Dec-MDPs without any estimation.

Policies are tabular softmax policies, advantages are exact, and batches cover everything. An update does what training
does (`tf_marl/agents/ppo/`): it normalises advantages, takes some epochs of Adam on the clipped surrogate, and may
backtrack. But its expectations are sums over all states and joint actions, and the returns before and after it are the
true ones. A rollout can also be sampled: it is then a number of states and joint actions from the discounted
distribution, each with its one-step advantage, `r + gamma V(s') - V(s)`, with the exact V.

HAPPO (Kuba et al. 2022, "Trust Region Policy Optimisation in Multi-Agent Reinforcement Learning") updates one agent
after another, in an order that is drawn anew for each update. In its turn, agent k maximises

    E[M min(r_k A, clip(r_k, 1 - eps, 1 + eps) A)],   M = product of the final ratios of the agents before it

where A is the joint advantage. M stays the same during all epochs of the turn. No two agents share weights here, so a
turn changes the policy of its own agent alone. The joint surrogate is the sum of what the turns gain:
`E[(prod_k r_k - 1) A] = sum_k E[M_k (r_k - 1) A]`.

Weights are float32 as in training; measurements of them are float64.

Shapes: B learners, U updates, S states, N agents, O local states, A actions of one agent, J = A^N joint actions.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl import diagnostics
from tf_marl.agents.ppo import clip_range, restraints
from tf_marl.compile import graph
from tf_marl.dec_mdp import exact, generators, model
from tf_marl.dec_mdp.generators import Instances
from tf_marl.dec_mdp.model import DecMDP
from tf_marl.dec_mdp.statements import Case
from tf_marl.ops import surrogate

LOWERED = 1e-6  # least drop of (1 - gamma) eta that counts as one, as a share of the largest reward

_EPOCHS = 30
_LEARNING_RATE = 0.1  # large steps: unclipped, an update may change a policy altogether


class Rule(NamedTuple):
    """Describes what keeps an update in the trust region: a clip range of `agents.ppo.clip_range`, or `backtrack`."""

    name: str  # fixed, per_agent, per_sqrt_agents or backtrack, which clips nothing
    value: float  # epsilon for fixed; alpha for the others

    def epsilon(self, num_agents: int) -> float:
        """Returns the half-width of the clip range for a team of `num_agents`; infinite if nothing is clipped."""
        if self.name in ("fixed", "backtrack"):
            return self.value if self.name == "fixed" else np.inf
        rule = getattr(clip_range, self.name)(self.value)
        return float(rule(tf.ones([num_agents], tf.bool), tf.constant(0.0)))


class History(NamedTuple):
    """Holds the policies of B learners over U updates, and measurements of them."""

    policy: np.ndarray  # [U + 1, B, N, O, A], logits before, between and after the updates
    eta: np.ndarray  # [U + 1, B], true return before, between and after the updates, times 1 - gamma: a mean reward
    joint_tv: np.ndarray  # [U, B], exact joint total variation of an update, the largest over states
    ratio_deviation: np.ndarray  # [U, B], sum over agents of the largest |ratio - 1|
    lower_bound: np.ndarray  # [U, B], Theorem 2's on the gain, for joint surrogate and joint TV, times 1 - gamma

    def lowered(self, reward_max: np.ndarray) -> np.ndarray:
        """Tells which updates lowered the return, by more than a millionth of the largest reward.

        Args:
            reward_max: the largest absolute reward in each learner's Dec-MDP, [B].

        Returns:
            Whether each update lowered the return, [U, B] bool.
        """
        return np.diff(self.eta, axis=0) < -LOWERED * reward_max


class Algorithm(NamedTuple):
    """Describes what an update maximises, and which agents learn at the same time."""

    ratio: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # independent or joint
    own_advantage: bool = False  # whether each agent has an advantage of its own
    sequential: bool = False  # whether the agents learn one after another


ALGORITHMS = {
    "ippo": Algorithm(surrogate.independent_ratio, own_advantage=True),
    "mappo": Algorithm(surrogate.independent_ratio),
    "jr_ppo": Algorithm(surrogate.joint_ratio),
    "happo": Algorithm(surrogate.independent_ratio, sequential=True),
}


def task(name: str, num_agents: int, count: int, seed: int) -> DecMDP:
    """Makes Dec-MDPs to learn in.

    Args:
        name: `random` for random Dec-MDPs with two local states and two actions per agent, or the game to copy:
            `climbing`, `penalty`, `volunteer`, `chain` or `grid`.
        num_agents: N.
        count: number of Dec-MDPs.
        seed: seed of the random Dec-MDPs.

    Returns:
        `count` Dec-MDPs.

    Raises:
        ValueError: there is no task of that name.
    """
    games = {
        "climbing": generators.climbing_game,
        "penalty": generators.penalty_game,
        "volunteer": generators.volunteer_game,
        "chain": generators.chain,
        "grid": generators.grid,
    }
    if name in games:
        return generators.repeat(games[name](num_agents), count)
    if name != "random":
        raise ValueError(f"unknown task {name!r}; choose one of: random, {', '.join(games)}")
    rng = np.random.default_rng([seed, num_agents])
    structure = generators.structure(rng, num_agents, 2, 2, whole=False, branches=2)
    return generators.realise(structure, generators.points(rng, structure, 2, count)).mdp


def learn(
    mdp: DecMDP, algorithm: str, rules: Sequence[Rule], num_updates: int, seed: int, num_samples: int = 0
) -> History:
    """Trains one learner in every Dec-MDP with every rule. In one Dec-MDP, all rules start from the same random policy.

    Args:
        mdp: C Dec-MDPs.
        algorithm: a key of `ALGORITHMS`.
        rules: R rules for the trust region.
        num_updates: U.
        seed: seed of the first policies, of the order of turns and of sampled rollouts.
        num_samples: number of pairs of state and joint action in each rollout; 0 for exact expectations over all pairs.

    Returns:
        Policies and measurements of B = C R learners, [U, B, ...] or [U + 1, B, ...]. The learners of one Dec-MDP, one
        for each rule, are next to each other.
    """
    count = mdp.start.shape[0]
    learners = generators.repeat(mdp, len(rules))
    shape = [count, mdp.num_agents, mdp.num_local_states, mdp.num_actions]
    first = 0.5 * tf.random.stateless_normal(shape, [seed, 0])
    policy = [tf.Variable(agent) for agent in tf.unstack(tf.repeat(first, len(rules), axis=0), axis=1)]
    epsilon = tf.constant([rule.epsilon(mdp.num_agents) for rule in rules] * count, tf.float64)
    back = [(i, rule.value) for i, rule in enumerate(list(rules) * count) if rule.name == "backtrack"]
    update = _update(learners, ALGORITHMS[algorithm], policy, epsilon, num_samples)

    policies, etas, measured = [tf.stack(policy, axis=1)], [], []
    for step in range(num_updates):
        update([seed, step + 1])
        old, new = policies[-1], tf.stack(policy, axis=1)
        if back:
            new = _backtracked(learners, old, new, back)
            for agent, logits in zip(policy, tf.unstack(new, axis=1), strict=True):
                agent.assign(logits)
        policies.append(new)
        case = Case(Instances(learners, tf.cast(old, tf.float64), tf.cast(new, tf.float64)))
        etas.append(case.horizon * case.old.eta)
        deviation = tf.reduce_sum(tf.reduce_max(case.deviation, axis=1), axis=-1)
        bound = case.joint_surrogate(case.states) - case.penalty(case.alpha)
        measured.append((case.alpha, deviation, bound))
    etas.append(case.horizon * case.new.eta)
    return History(np.array(policies), np.array(etas), *(np.array(column) for column in zip(*measured, strict=True)))


class _Batch(NamedTuple):
    """Holds the rollouts of B learners; the last axis of mass and advantage is missing where the ratio is joint."""

    old_log_prob: tf.Tensor  # [B, S, J, N]
    mass: tf.Tensor  # [B, S, J, 1], share of each state and joint action in the rollout
    advantage: tf.Tensor  # [B, S, J, 1] or [B, S, J, N], normalised


def _update(
    mdp: DecMDP, algorithm: Algorithm, policy: list[tf.Variable], epsilon: tf.Tensor, num_samples: int
) -> Callable[[list[int]], None]:
    """Returns a function of a seed, two numbers, that makes one update of `policy`: a rollout, then all turns.

    Args:
        mdp: B Dec-MDPs.
        algorithm: what to maximise.
        policy: the logits of each agent that the function changes, N of [B, O, A] float32.
        epsilon: half-widths of the clip ranges, [B].
        num_samples: size of a sampled rollout; 0 for exact expectations.
    """
    agents = list(range(mdp.num_agents))
    together = [[agent] for agent in agents] if algorithm.sequential else [agents]
    turns = [_turn(mdp, algorithm.ratio, policy, learning, epsilon) for learning in together]
    collect = graph.function(lambda seed: _collect(mdp, algorithm, _team(mdp, policy), num_samples, seed))

    def update(seed: list[int]) -> None:
        batch = collect(tf.constant(seed))
        for turn in np.random.default_rng(seed).permutation(len(turns)):
            turns[turn](batch)

    return update


def _team(mdp: DecMDP, policy: list[tf.Variable]) -> tf.Tensor:
    """Returns the team's logits at every state, [B, S, N, A] float64."""
    return model.team_logits(mdp, tf.cast(tf.stack(policy, axis=1), tf.float64))


def _collect(mdp: DecMDP, algorithm: Algorithm, team: tf.Tensor, num_samples: int, seed: tf.Tensor) -> _Batch:
    """Collects the rollouts of one update.

    Args:
        mdp: B Dec-MDPs.
        algorithm: what to maximise.
        team: the logits of the team that collects, [B, S, N, A].
        num_samples: size of a sampled rollout; 0 for exact expectations.
        seed: [2] int32.
    """
    old = exact.evaluate(mdp, team)
    mass = (1.0 - mdp.gamma)[:, None, None] * old.visits[..., None] * old.policy
    advantage = old.advantage
    if num_samples:
        mass, advantage = _sampled(mdp, old, mass, num_samples, seed)
    if algorithm.own_advantage:
        tables = [exact.marginal(mdp, mass, k, advantage) for k in range(mdp.num_agents)]
        advantage = exact.spread(mdp, tables)
    elif algorithm.ratio is surrogate.independent_ratio:
        advantage = advantage[..., None]
    # [B, S, J] for the team's one ratio, [B, S, J, 1] for a ratio of each agent.
    mass = tf.reshape(mass, [*mass.shape, *[1] * (len(advantage.shape) - 3)])
    log_prob = model.log_prob(team, model.joint_actions(mdp.num_agents, mdp.num_actions))
    return _Batch(log_prob, mass, _normalised(advantage, mass))


def _turn(
    mdp: DecMDP,
    ratio: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    policy: list[tf.Variable],
    agents: list[int],
    epsilon: tf.Tensor,
) -> Callable[[_Batch], None]:
    """Returns a compiled function of a batch that runs the epochs of some agents, which learn at the same time.

    These agents have an optimiser of their own: Adam moves weights without a gradient too, by their momentum.

    Args:
        mdp: B Dec-MDPs.
        ratio: the independent or the joint ratio.
        policy: the logits of each agent, N of [B, O, A] float32.
        agents: indices of the agents that learn; the function changes their logits.
        epsilon: half-widths of the clip ranges, [B].
    """
    actions = model.joint_actions(mdp.num_agents, mdp.num_actions)
    learning = [policy[k] for k in agents]
    optimizer = tf.keras.optimizers.legacy.Adam(_LEARNING_RATE)
    optimizer._create_all_weights(learning)  # outside of the graph

    @graph.function
    @graph.converted
    def turn(batch: _Batch) -> None:
        # HAPPO's M. Agents whose turn has not come have a ratio of 1; where all learn at once, M is 1.
        before = surrogate.joint_ratio(model.log_prob(_team(mdp, policy), actions), batch.old_log_prob)
        mass = batch.mass * tf.reshape(before, batch.mass.shape)
        old_log_prob = tf.gather(batch.old_log_prob, agents, axis=-1)
        clip = tf.reshape(epsilon, [-1] + [1] * (len(mass.shape) - 1))
        for _ in tf.range(_EPOCHS):
            with tf.GradientTape() as tape:
                team = tf.gather(_team(mdp, policy), agents, axis=2)
                ratios = ratio(model.log_prob(team, actions[:, agents]), old_log_prob)
                loss = -tf.reduce_sum(mass * surrogate.clipped_surrogate(ratios, batch.advantage, clip))
            optimizer.apply_gradients(zip(tape.gradient(loss, learning), learning, strict=True))

    return turn


def _normalised(advantage: tf.Tensor, mass: tf.Tensor) -> tf.Tensor:
    """Normalises advantages to zero mean and unit variance in each instance, as training does.

    HAPPO's are normalised once, before any turn, and M multiplies the result.

    Args:
        advantage: [B, S, J], [B, S, J, 1] or [B, S, J, N].
        mass: probability of each state and joint action, [B, S, J] or [B, S, J, 1]; sums to 1 in each instance.

    Returns:
        Normalised advantages, shaped like `advantage`.
    """
    axes = list(range(1, len(advantage.shape)))
    share = mass / advantage.shape[-1] if len(axes) == 3 else mass
    mean = tf.reduce_sum(share * advantage, axes, keepdims=True)
    variance = tf.reduce_sum(share * tf.square(advantage - mean), axes, keepdims=True)
    return (advantage - mean) * tf.math.rsqrt(variance + 1e-8)


def _sampled(
    mdp: DecMDP, old: exact.Evaluation, mass: tf.Tensor, num_samples: int, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Samples a rollout: pairs of state and joint action from `mass`, and one successor for each.

    Args:
        mdp: B Dec-MDPs.
        old: the policy that collects.
        mass: probability of each state and joint action, [B, S, J].
        num_samples: number of pairs in each instance.
        seed: [2] int32.

    Returns:
        The share of each state and joint action in the rollout, and its mean one-step advantage (0 if it was not
        sampled), [B, S, J] each.
    """
    shape = tf.shape(mass)
    places = shape[1] * shape[2]
    seeds = tf.random.split(seed, 2)
    drawn = tf.random.stateless_categorical(tf.math.log(tf.reshape(mass, [-1, places])), num_samples, seeds[0])
    branches = tf.reshape(mdp.probability, [shape[0], places, -1])
    chosen = tf.gather(branches, drawn, batch_dims=1)  # [B, M, K]
    branch = tf.random.stateless_categorical(
        tf.math.log(tf.reshape(chosen, [-1, mdp.successor.shape[-1]])), 1, seeds[1]
    )
    branch = tf.reshape(branch, tf.shape(drawn))
    there = tf.gather_nd(tf.reshape(mdp.successor, [places, -1]), tf.stack([drawn, branch], axis=-1))
    here = drawn // tf.cast(shape[2], drawn.dtype)
    reward = tf.gather(tf.reshape(mdp.reward, [-1, places]), drawn, batch_dims=1)
    value, later = (tf.gather(old.value, state, batch_dims=1) for state in (here, there))
    residual = reward + mdp.gamma[:, None] * later - value
    at = tf.cast(tf.range(shape[0])[:, None] * places, drawn.dtype) + drawn
    counts, total = (
        tf.math.unsorted_segment_sum(tf.reshape(column, [-1]), tf.reshape(at, [-1]), shape[0] * places)
        for column in (tf.ones_like(residual), residual)
    )
    return tf.reshape(counts / num_samples, shape), tf.reshape(tf.math.divide_no_nan(total, counts), shape)


class _Tabular:
    """Presents the policy of one instance with the attributes that the restraints of PPO expect of a learner."""

    def __init__(self, mdp: DecMDP, old: tf.Tensor, new: tf.Tensor):
        """Takes one instance's logits before and after an update.

        Args:
            mdp: the Dec-MDPs; only their observation table matters.
            old: [N, O, A] float32.
            new: [N, O, A] float32.
        """
        self._mdp = mdp
        self._old = model.team_logits(mdp, old[None])  # once: backtracking asks again and again how far it is
        self.actor_weights = [tf.Variable(new)]
        self.epsilon_scale = tf.Variable(1.0)

    def policy_change(self) -> diagnostics.PolicyChange:
        """Returns the old and new logits at every state, [1, S, N, A]; every agent counts as learning everywhere."""
        new = model.team_logits(self._mdp, self.actor_weights[0][None])
        shape = new.shape[:-1]
        action, learns = tf.zeros(shape, tf.int32), tf.ones(shape, tf.bool)
        return diagnostics.PolicyChange(self._old, new, action, learns, tf.constant(np.inf))


def _backtracked(mdp: DecMDP, old: tf.Tensor, new: tf.Tensor, back: list[tuple[int, float]]) -> tf.Tensor:
    """Moves some policies back towards their old logits until their total variation is at most alpha.

    Args:
        mdp: B Dec-MDPs.
        old: logits before the update, [B, N, O, A] float32.
        new: logits after the update, [B, N, O, A] float32.
        back: index and alpha of each learner that backtracks.

    Returns:
        The logits, [B, N, O, A] float32; those of learners that are not in `back` are `new`.
    """
    policies = tf.unstack(new)
    for index, alpha in back:
        policy = _Tabular(mdp, old[index], policies[index])
        restraints.backtrack(alpha).end(policy, policy.policy_change, tf.constant(0), [old[index]])
        policies[index] = tf.identity(policy.actor_weights[0])
    return tf.stack(policies)
