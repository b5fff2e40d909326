"""This module trains IPPO, MAPPO and joint-ratio PPO on Dec-MDPs without any estimation.

Policies are tabular softmax policies, advantages are exact, and batches cover everything. An update does what training
does (`tf_marl/agents/ppo/`): it normalises advantages, takes some epochs of Adam on the clipped surrogate, and may
backtrack. But its expectations are sums over all states and joint actions, and the returns before and after it are the
true ones. A rollout can also be sampled: it is then a number of states and joint actions from the discounted
distribution, each with its one-step advantage, `r + gamma V(s') - V(s)`, with the exact V.

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
    """Describes what keeps an update in the trust region: `fixed` or `per_agent` clipping, or `backtrack` alone."""

    name: str  # fixed, per_agent or backtrack
    value: float  # epsilon for fixed; alpha for the other two

    def epsilon(self, num_agents: int) -> float:
        """Returns the half-width of the clip range for a team of `num_agents`; infinite if nothing is clipped."""
        if self.name == "per_agent":
            return float(clip_range.per_agent(self.value)(tf.ones([num_agents], tf.bool), tf.constant(0.0)))
        return self.value if self.name == "fixed" else np.inf


class History(NamedTuple):
    """Holds measurements of B learners over U updates."""

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


# (independent or joint ratio, whether each agent has an advantage of its own)
ALGORITHMS: dict[str, tuple[Callable[[tf.Tensor, tf.Tensor], tf.Tensor], bool]] = {
    "ippo": (surrogate.independent_ratio, True),
    "mappo": (surrogate.independent_ratio, False),
    "jr_ppo": (surrogate.joint_ratio, False),
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
        seed: seed of the first policies and of sampled rollouts.
        num_samples: number of pairs of state and joint action in each rollout; 0 for exact expectations over all pairs.

    Returns:
        Measurements of B = C R learners, [U, B] or [U + 1, B]. The learners of one Dec-MDP, one for each rule, are
        next to each other.
    """
    count = mdp.start.shape[0]
    learners = generators.repeat(mdp, len(rules))
    shape = [count, mdp.num_agents, mdp.num_local_states, mdp.num_actions]
    first = 0.5 * tf.random.stateless_normal(shape, [seed, 0])
    policy = tf.Variable(tf.repeat(first, len(rules), axis=0))
    optimizer = tf.keras.optimizers.legacy.Adam(_LEARNING_RATE)
    epsilon = tf.constant([rule.epsilon(mdp.num_agents) for rule in rules] * count, tf.float64)
    back = [(i, rule.value) for i, rule in enumerate(list(rules) * count) if rule.name == "backtrack"]
    step = _update(learners, algorithm, policy, optimizer, epsilon, num_samples)

    def logits() -> tf.Tensor:
        return tf.cast(policy, tf.float64)

    etas, measured = [], []
    for update in range(num_updates):
        old = tf.identity(policy)
        step(tf.constant([seed, update + 1]))
        if back:
            policy.assign(_backtracked(learners, old, policy, back))
        case = Case(Instances(learners, tf.cast(old, tf.float64), logits()))
        etas.append(case.horizon * case.old.eta)
        deviation = tf.reduce_sum(tf.reduce_max(case.deviation, axis=1), axis=-1)
        bound = case.joint_surrogate(case.states) - case.penalty(case.alpha)
        measured.append((case.alpha, deviation, bound))
    etas.append(case.horizon * case.new.eta)
    return History(np.array(etas), *(np.array(column) for column in zip(*measured, strict=True)))


def _update(
    mdp: DecMDP,
    algorithm: str,
    policy: tf.Variable,
    optimizer: tf.keras.optimizers.legacy.Optimizer,
    epsilon: tf.Tensor,
    num_samples: int,
) -> Callable[[tf.Tensor], None]:
    """Returns a compiled function of a seed, [2] int32, that runs the epochs of one update and changes `policy`.

    Args:
        mdp: B Dec-MDPs.
        algorithm: a key of `ALGORITHMS`.
        policy: the logits that the function changes, [B, N, O, A] float32.
        optimizer: takes the steps.
        epsilon: half-widths of the clip ranges, [B].
        num_samples: size of a sampled rollout; 0 for exact expectations.
    """
    ratio, own_advantage = ALGORITHMS[algorithm]
    actions = model.joint_actions(mdp.num_agents, mdp.num_actions)
    optimizer._create_all_weights([policy])  # outside of the graph

    def team() -> tf.Tensor:
        return model.team_logits(mdp, tf.cast(policy, tf.float64))

    @graph.function
    @graph.converted
    def update(seed: tf.Tensor) -> None:
        old = exact.evaluate(mdp, team())
        old_log_prob = model.log_prob(team(), actions)
        mass = (1.0 - mdp.gamma)[:, None, None] * old.visits[..., None] * old.policy
        advantage = old.advantage
        if num_samples:
            mass, advantage = _sampled(mdp, old, mass, num_samples, seed)
        if own_advantage:
            tables = [exact.marginal(mdp, mass, k, advantage) for k in range(mdp.num_agents)]
            advantage = exact.spread(mdp, tables)
        elif ratio is surrogate.independent_ratio:
            advantage = advantage[..., None]
        # [B, S, J] for the team's one ratio, [B, S, J, 1] for a ratio of each agent.
        places = [*mass.shape, *[1] * (len(advantage.shape) - 3)]
        mass = tf.reshape(mass, places)
        clip = tf.reshape(epsilon, [-1] + [1] * (len(places) - 1))
        advantage = _normalised(advantage, mass)
        for _ in tf.range(_EPOCHS):
            with tf.GradientTape() as tape:
                ratios = ratio(model.log_prob(team(), actions), old_log_prob)
                loss = -tf.reduce_sum(mass * surrogate.clipped_surrogate(ratios, advantage, clip))
            optimizer.apply_gradients([(tape.gradient(loss, policy), policy)])

    return update


def _normalised(advantage: tf.Tensor, mass: tf.Tensor) -> tf.Tensor:
    """Normalises advantages to zero mean and unit variance in each instance, as training does.

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
        self._mdp, self._old = mdp, old
        self.actor_weights = [tf.Variable(new)]
        self.epsilon_scale = tf.Variable(1.0)

    def policy_change(self) -> diagnostics.PolicyChange:
        """Returns the old and new logits at every state, [1, S, N, A]; every agent counts as learning everywhere."""
        old, new = (model.team_logits(self._mdp, policy[None]) for policy in (self._old, self.actor_weights[0]))
        learns = tf.ones(old.shape[:-1], tf.bool)
        return diagnostics.PolicyChange(old, new, tf.zeros(old.shape[:-1], tf.int32), learns, tf.constant(np.inf))


def _backtracked(mdp: DecMDP, old: tf.Tensor, new: tf.Variable, back: list[tuple[int, float]]) -> tf.Tensor:
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
