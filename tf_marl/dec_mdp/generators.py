"""This module draws random Dec-MDPs and builds games whose best returns are known.

A random instance is a point in R^n. Softmax turns its numbers into probabilities, tanh into rewards and a sigmoid into
a discount. No constraint is left, so the search for counterexamples can follow gradients from any point.

Shapes: B instances, S states, N agents, O local states, A actions of one agent, J = A^N joint actions, K successors.
"""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.dec_mdp import model
from tf_marl.dec_mdp.model import DecMDP
from tf_marl.environments.matrix_game import CLIMBING_GAME


class Instances(NamedTuple):
    """Holds B Dec-MDPs and a change of policy in each: the old and the new logits of every agent."""

    mdp: DecMDP
    old: tf.Tensor  # [B, N, O, A] logits
    new: tf.Tensor  # [B, N, O, A] logits


class Structure(NamedTuple):
    """Holds what all instances of one batch share: the successors, what each agent sees, and what earns rewards."""

    successor: np.ndarray  # [S, J, K] int, index of each successor state
    observation: np.ndarray  # [S, N] int, each agent's local state
    rewards_states: bool = False  # whether the reward depends on the state alone; that of joint action 0 counts then


class Point(NamedTuple):
    """Holds B instances as numbers without bounds; `realise` turns them into Dec-MDPs and policies."""

    probability: tf.Tensor  # [B, S, J, K], logits of the successors
    reward: tf.Tensor  # [B, S, J], before tanh
    start: tf.Tensor  # [B, S], logits of the first state
    gamma: tf.Tensor  # [B], before the sigmoid
    old: tf.Tensor  # [B, N, O, A], old logits
    change: tf.Tensor  # [B, N, O, A], new minus old logits


def realise(structure: Structure, point: Point) -> Instances:
    """Turns a point into the instances that it stands for. The map is differentiable.

    Args:
        structure: the successors and observations that all instances share.
        point: B instances as unbounded numbers.

    Returns:
        B Dec-MDPs, with rewards in [-1, 1] and discounts in (0, 0.99), and the old and new logits, [B, N, O, A].
    """
    reward = tf.tanh(point.reward)
    if structure.rewards_states:
        reward = tf.broadcast_to(reward[..., :1], reward.shape)
    mdp = DecMDP(
        probability=tf.nn.softmax(point.probability),
        successor=structure.successor,
        reward=reward,
        start=tf.nn.softmax(point.start),
        gamma=0.99 * tf.sigmoid(point.gamma),
        observation=structure.observation,
    )
    return Instances(mdp, point.old, point.old + point.change)


def structure(
    rng: np.random.Generator,
    num_agents: int,
    num_local_states: int,
    num_actions: int,
    whole: bool,
    branches: int | None,
    rewards_states: bool = False,
) -> Structure:
    """Draws the structure of a batch of Dec-MDPs.

    Args:
        rng: draws the successors.
        num_agents: N.
        num_local_states: O. There are O^N states, or O states if every agent sees the whole state.
        num_actions: A, the actions of one agent.
        whole: whether every agent sees the whole state.
        branches: K, the number of random successors of each state and joint action; None for all S states.
        rewards_states: whether rewards depend on the state alone.

    Returns:
        Successors, [S, J, K] int, observations, [S, N] int, and `rewards_states`.
    """
    see = model.whole_state if whole else model.local_states
    observation = see(num_agents, num_local_states)
    states, joint_actions = len(observation), num_actions**num_agents
    if branches is None:
        successor = np.broadcast_to(np.arange(states), [states, joint_actions, states]).copy()
    else:
        successor = rng.integers(states, size=[states, joint_actions, branches])
    return Structure(successor, observation, rewards_states)


def points(rng: np.random.Generator, structure: Structure, num_actions: int, batch: int) -> Point:
    """Draws random instances of many kinds.

    Distributions range from flat to peaked, and rewards are dense or sparse. The new logits differ from the old ones by
    normal numbers of a scale between 0.001 and 3. In one instance of four, only one agent changes its policy; in one of
    eight, all agents have the same policies.

    Args:
        rng: draws everything.
        structure: the structure of the instances.
        num_actions: A, the actions of one agent.
        batch: B, the number of instances.

    Returns:
        B instances as unbounded numbers; each entry has the shape that `Point` lists.
    """
    (states, joint_actions, branches), agents = structure.successor.shape, structure.observation.shape[1]
    local = structure.observation.max() + 1

    def scale(low: float, high: float, ndim: int) -> np.ndarray:
        """Draws scales whose logarithms are uniform, [B, 1, ...] with `ndim` axes after the first."""
        return np.exp(rng.uniform(np.log(low), np.log(high), [batch] + [1] * ndim))

    rewarded = rng.random([batch, states, joint_actions]) < rng.choice([0.2, 1.0], [batch, 1, 1])
    change = scale(0.001, 3.0, 3) * rng.normal(size=[batch, agents, local, num_actions])
    alone = (rng.random([batch, 1]) < 0.25) & (rng.permuted(np.tile(np.arange(agents), (batch, 1)), axis=1) > 0)
    old = scale(0.1, 3.0, 3) * rng.normal(size=[batch, agents, local, num_actions])
    change = np.where(alone[..., None, None], 0.0, change)
    alike = rng.random([batch, 1, 1, 1]) < 0.125
    drawn = Point(
        probability=scale(0.3, 5.0, 3) * rng.normal(size=[batch, states, joint_actions, branches]),
        reward=np.where(rewarded, rng.normal(size=rewarded.shape), 0.0),
        start=scale(0.3, 5.0, 1) * rng.normal(size=[batch, states]),
        gamma=rng.uniform(-6.0, 6.0, [batch]),
        old=np.where(alike, old[:, :1], old),
        change=np.where(alike, change[:, :1], change),
    )
    return Point(*(tf.constant(leaf) for leaf in drawn))


def switches(rng: np.random.Generator, structure: Structure, num_actions: int, batch: int) -> Point:
    """Draws instances that are built to make bounds tight, for the ascent to start from.

    The team's step is worth something, or costs it, by the sign of the state: `sign(s)` times the mean of `g_k(a_k)`
    over agents, where g_k is 1 for actions that became likelier and -1 for the others. So no agent's advantage is
    large, and the agents' advantages add up. In half of the instances it is their product, so a single agent's
    advantage is small while the others are old. Rewards pay it, or, where rewards depend on the state alone, the chance
    of a state that pays. The next state's sign is a switch that the joint action works: what the new joint policy does
    more often leads to one sign, so the states shift by as much as the joint policy. In half of the instances all
    agents are alike.

    Args:
        rng: draws everything.
        structure: the structure of the instances; every state must be a successor of every joint action, in order.
        num_actions: A, the actions of one agent.
        batch: B, the number of instances.

    Returns:
        B instances as unbounded numbers; each entry has the shape that `Point` lists.
    """
    states, agents = structure.observation.shape
    local = structure.observation.max() + 1
    alike = rng.random([batch, 1, 1, 1]) < 0.5
    old = rng.choice([0.0, 0.5], [batch, 1, 1, 1]) * rng.normal(size=[batch, agents, local, num_actions])
    change = np.exp(rng.uniform(np.log(0.03), 0.0, [batch, 1, 1, 1])) * rng.normal(size=old.shape)
    old, change = (np.where(alike, leaf[:, :1], leaf) for leaf in (old, change))
    gain = change - (np.exp(old) * change).sum(-1, keepdims=True) / np.exp(old).sum(-1, keepdims=True)
    own = [gain[:, k, structure.observation[:, k]] for k in range(agents)]  # [B, S, A]
    of_actions = np.stack([own[k][..., action] for k, action in enumerate(model.joint_actions(agents, num_actions).T)])
    signs = np.sign(of_actions)  # [N, B, S, J]
    together = rng.random([batch, 1, 1]) < 0.5
    worth = np.where(together, signs.prod(axis=0), signs.mean(axis=0))  # [B, S, J]
    switch = np.sign(of_actions.sum(axis=0))
    sign = rng.choice([-1.0, 1.0], [batch, 1]) * np.where(np.arange(states) % 2, -1.0, 1.0)  # [B, S]
    prize = np.where(np.arange(states) // 2 % 2, 1.0, -1.0)  # with four states and more: which of them pay
    paying = 0.9 * worth[..., None] * sign[:, :, None, None] * prize
    reward = np.broadcast_to(prize[:, None], worth.shape) if structure.rewards_states else 2.0 * worth * sign[..., None]
    pull = rng.uniform(0.5, 4.0, [batch, 1, 1, 1])
    drawn = Point(
        probability=pull * switch[..., None] * sign[:, None, None] + np.log1p(paying) * structure.rewards_states,
        reward=reward,
        start=np.zeros([batch, states]),
        gamma=rng.uniform(-4.0, 2.0, [batch]),
        old=old,
        change=change,
    )
    return Point(*(tf.constant(np.broadcast_to(leaf, leaf.shape)) for leaf in drawn))


def matrix_game(payoff: np.ndarray, gamma: float = 0.0) -> DecMDP:
    """Builds a Dec-MDP of one state in which the team plays the same matrix game at every step.

    Args:
        payoff: reward of every joint action, [A, ..., A] with one axis for each of the N agents.
        gamma: discount per step; 0 makes the value the reward of one step.

    Returns:
        One Dec-MDP (B = 1).
    """
    joint_actions = payoff.size
    return _one(
        probability=np.ones([1, joint_actions, 1]),
        successor=np.zeros([1, joint_actions, 1], int),
        reward=payoff.reshape(1, -1),
        start=np.ones(1),
        gamma=gamma,
        observation=np.zeros([1, payoff.ndim], int),
    )


def climbing_game(num_agents: int = 2) -> DecMDP:
    """Builds the climbing game (Claus & Boutilier 1998).

    The best joint action earns 11. Both agents must take their first action for it, and taking it while the other takes
    the second costs the team 30. With more than two agents, every agent plays the game with its neighbours on a ring,
    and the team earns the mean over pairs.

    Args:
        num_agents: N.

    Returns:
        One Dec-MDP (B = 1) with one state and three actions for each agent.
    """
    actions = model.joint_actions(num_agents, 3)
    if num_agents == 2:
        return matrix_game(CLIMBING_GAME.astype(np.float64))
    pairs = [(k, (k + 1) % num_agents) for k in range(num_agents)]
    payoff = np.mean([CLIMBING_GAME[actions[:, i], actions[:, j]] for i, j in pairs], axis=0)
    return matrix_game(payoff.reshape([3] * num_agents).astype(np.float64))


def penalty_game(num_agents: int = 2, penalty: float = -30.0) -> DecMDP:
    """Builds the penalty game (Claus & Boutilier 1998), in which the team must agree on one of two best actions.

    The team earns 10 if all agents take the first action or all take the last one, and 2 if all take the middle one. It
    earns the penalty if some take the first action and the others the last, and 0 otherwise.

    Args:
        num_agents: N.
        penalty: reward of a failure to agree.

    Returns:
        One Dec-MDP (B = 1) with one state and three actions for each agent.
    """
    actions = model.joint_actions(num_agents, 3)
    payoff = np.where(((actions == 0) | (actions == 2)).all(axis=1), penalty, 0.0)
    for action, worth in ((0, 10.0), (1, 2.0), (2, 10.0)):
        payoff[(actions == action).all(axis=1)] = worth
    return matrix_game(payoff.reshape([3] * num_agents))


def volunteer_game(num_agents: int = 2) -> DecMDP:
    """Builds a game of one state that pays 1 if exactly one agent takes the second of two actions, and 0 otherwise.

    An action that is good for any agent to take alone is bad if all agents take it at once.

    Args:
        num_agents: N.

    Returns:
        One Dec-MDP (B = 1).
    """
    volunteers = model.joint_actions(num_agents, 2).sum(axis=1)
    return matrix_game((volunteers == 1).astype(np.float64).reshape([2] * num_agents))


def chain(num_agents: int = 2, length: int = 4, gamma: float = 0.9, slip: float = 0.1) -> DecMDP:
    """Builds a corridor that the team walks together and that every agent sees.

    The team starts at the left end. It goes right if all agents choose the second action, else left. Going right at the
    right end earns 1, going left at the left end earns 0.1, and every other step earns 0.

    Args:
        num_agents: N.
        length: S, the number of cells.
        gamma: discount per step.
        slip: probability that the team stays where it is.

    Returns:
        One Dec-MDP (B = 1) with two actions for each agent.
    """
    right = (model.joint_actions(num_agents, 2) == 1).all(axis=1)
    here = np.arange(length)[:, None]
    there = np.where(right, np.minimum(here + 1, length - 1), np.maximum(here - 1, 0))
    reward = np.where(right & (here == length - 1), 1.0, np.where(~right & (here == 0), 0.1, 0.0))
    return _one(
        probability=np.broadcast_to([1.0 - slip, slip], [*there.shape, 2]),
        successor=np.stack([there, np.broadcast_to(here, there.shape)], axis=-1),
        reward=reward,
        start=np.eye(length)[0],
        gamma=gamma,
        observation=model.whole_state(num_agents, length),
    )


def grid(num_agents: int = 2, length: int = 3, gamma: float = 0.9, slip: float = 0.1) -> DecMDP:
    """Builds a grid in which every agent moves along a row of its own and sees only its own place in it.

    Each agent goes left, stays or goes right. The team earns 1 while all agents stand in the last column, 0.3 while all
    stand in the same other column, -0.2 while all but one stand in the last column, and 0 otherwise. Its first state is
    uniform over all places.

    Args:
        num_agents: N.
        length: O, the number of columns. There are O^N states.
        gamma: discount per step.
        slip: probability that nobody moves.

    Returns:
        One Dec-MDP (B = 1) with three actions for each agent.
    """
    place = model.local_states(num_agents, length)
    there = np.clip(place[:, None] + model.joint_actions(num_agents, 3) - 1, 0, length - 1)  # [S, J, N]
    there = np.ravel_multi_index(np.moveaxis(there, -1, 0), [length] * num_agents)
    here = np.broadcast_to(np.arange(len(place))[:, None], there.shape)
    arrived = (place == length - 1).sum(axis=1)
    together = (place == place[:, :1]).all(axis=1)
    worth = np.where(
        together, np.where(arrived == num_agents, 1.0, 0.3), np.where(arrived == num_agents - 1, -0.2, 0.0)
    )
    return _one(
        probability=np.broadcast_to([1.0 - slip, slip], [*there.shape, 2]),
        successor=np.stack([there, here], axis=-1),
        reward=np.broadcast_to(worth[:, None], there.shape),
        start=np.full(len(place), 1.0 / len(place)),
        gamma=gamma,
        observation=place,
    )


def optimum(mdp: DecMDP) -> float:
    """Computes the best return of any deterministic decentralised policy by trying all of them.

    Args:
        mdp: one Dec-MDP (B = 1).

    Returns:
        The best expected discounted return.

    Raises:
        ValueError: there are more than 2^16 policies.
    """
    from tf_marl.dec_mdp import exact

    agents, local, actions = mdp.num_agents, mdp.num_local_states, mdp.num_actions
    if actions ** (agents * local) > 2**16:
        raise ValueError(f"{actions}^{agents * local} policies are too many to try")
    choices = np.array(list(itertools.product(range(actions), repeat=agents * local)))
    policy = 1e3 * np.eye(actions)[choices].reshape(-1, agents, local, actions)
    all_of_them = repeat(mdp, len(policy))
    return float(tf.reduce_max(exact.evaluate(all_of_them, model.team_logits(all_of_them, tf.constant(policy))).eta))


def repeat(mdp: DecMDP, times: int) -> DecMDP:
    """Repeats each of B Dec-MDPs, with its copies one after another.

    Args:
        mdp: B Dec-MDPs.
        times: number of copies of each.

    Returns:
        `B * times` Dec-MDPs.
    """
    batched = {
        name: tf.repeat(getattr(mdp, name), times, axis=0) for name in ("probability", "reward", "start", "gamma")
    }
    return mdp._replace(**batched)


def _one(probability, successor, reward, start, gamma, observation) -> DecMDP:
    batched = (tf.constant(table[None], tf.float64) for table in (probability, reward, start, np.array(gamma)))
    probability, reward, start, gamma = batched
    return model.check(DecMDP(probability, successor, reward, start, gamma, observation))
