"""This module defines a Dec-MDP (the paper's section 3) as tables, and the team's policy in it.

All N agents act at the same time. Agent k sees only its local state `o_k(s)` and draws its action from
`pi_k(a_k | o_k)`. The joint action moves the state and earns the team one reward. The process is a Dec-MDP because the
local states of all agents together determine the state: no two rows of the [S, N] table of observations are equal.
Where `o_k(s) = s`, every agent sees the whole state.

Shapes: B instances, S states, N agents, O local states, A actions of one agent, J = A^N joint actions, K successors.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class DecMDP(NamedTuple):
    """Holds B Dec-MDPs that share their structure (who sees what, what can follow what) and differ in their numbers.

    A joint action leads to one of K successors. A small K lets five agents with four local states and three actions
    each fit into memory. K = S gives a dense transition kernel, K = 1 a deterministic one.
    """

    probability: tf.Tensor  # [B, S, J, K], probability of each successor; sums to 1 over K
    successor: np.ndarray  # [S, J, K] int, index of each successor state; a state may be listed twice
    reward: tf.Tensor  # [B, S, J], expected reward of a joint action at a state
    start: tf.Tensor  # [B, S], distribution of the first state, rho_0
    gamma: tf.Tensor  # [B], discount per step, in [0, 1)
    observation: np.ndarray  # [S, N] int, each agent's local state, counted from 0

    @property
    def num_agents(self) -> int:
        """Returns N, the number of agents."""
        return self.observation.shape[1]

    @property
    def num_states(self) -> int:
        """Returns S, the number of states."""
        return self.observation.shape[0]

    @property
    def num_local_states(self) -> int:
        """Returns O, the number of local states that an agent may observe (the largest number over agents)."""
        return int(self.observation.max()) + 1

    @property
    def num_actions(self) -> int:
        """Returns A, the number of actions of one agent."""
        return round(self.successor.shape[1] ** (1 / self.num_agents))


def check(mdp: DecMDP) -> DecMDP:
    """Checks that tables describe a Dec-MDP, and returns them unchanged.

    Args:
        mdp: the Dec-MDPs to check, with the shapes that `DecMDP` lists.

    Returns:
        `mdp` itself.

    Raises:
        ValueError: a shape does not fit the others, probabilities are negative or do not sum to 1, a successor is not
            a state, gamma is not in [0, 1), or two states have the same local states for every agent.
    """
    batch, states, joint_actions, branches = mdp.probability.shape
    expected = {
        "successor": [states, joint_actions, branches],
        "reward": [batch, states, joint_actions],
        "start": [batch, states],
        "gamma": [batch],
        "observation": [states, mdp.observation.shape[-1]],
    }
    for name, shape in expected.items():
        if list(getattr(mdp, name).shape) != shape:
            raise ValueError(f"{name} has shape {list(getattr(mdp, name).shape)}, where {shape} fits")
    if mdp.num_actions**mdp.num_agents != joint_actions:
        raise ValueError(f"{joint_actions} joint actions are no power of {mdp.num_agents} agents")
    for name, table in (("probability", mdp.probability), ("start", mdp.start)):
        if np.min(table) < 0 or not np.allclose(np.sum(table, axis=-1), 1.0, atol=1e-9):
            raise ValueError(f"{name} holds what is no distribution")
    if mdp.successor.min() < 0 or mdp.successor.max() >= states:
        raise ValueError(f"successor names a state outside 0 to {states - 1}")
    if np.min(mdp.gamma) < 0 or np.max(mdp.gamma) >= 1:
        raise ValueError("gamma is not in [0, 1)")
    if len(np.unique(mdp.observation, axis=0)) < states:
        raise ValueError("observation: two states look alike to the whole team, so this is no Dec-MDP")
    return mdp


def joint_actions(num_agents: int, num_actions: int) -> np.ndarray:
    """Lists all joint actions in the order of every table in this package: the last agent's action changes fastest.

    Args:
        num_agents: N.
        num_actions: A, the actions of one agent.

    Returns:
        Each agent's action in every joint action, [J, N] int with J = A^N.
    """
    return np.stack(np.unravel_index(np.arange(num_actions**num_agents), [num_actions] * num_agents), axis=1)


def local_states(num_agents: int, num_local_states: int) -> np.ndarray:
    """Builds the observation table of Dec-MDPs whose states are all combinations of the agents' local states.

    Args:
        num_agents: N.
        num_local_states: O.

    Returns:
        Each agent's local state at every state, [S, N] int with S = O^N.
    """
    return joint_actions(num_agents, num_local_states)


def whole_state(num_agents: int, num_states: int) -> np.ndarray:
    """Returns the observation table of Dec-MDPs in which every agent sees the whole state: [S, N] int, `[s, k] = s`."""
    return np.repeat(np.arange(num_states)[:, None], num_agents, axis=1)


def team_logits(mdp: DecMDP, policy: tf.Tensor) -> tf.Tensor:
    """Looks up every agent's logits at every state, in the layout that `tf_marl.ops` takes.

    Args:
        mdp: the B Dec-MDPs, for their observation table.
        policy: each agent's logits at each of its local states, [B, N, O, A].

    Returns:
        The team's logits at every state, [B, S, N, A].
    """
    return tf.stack([tf.gather(policy[:, k], mdp.observation[:, k], axis=1) for k in range(mdp.num_agents)], axis=2)


def log_prob(team: tf.Tensor, actions: np.ndarray) -> tf.Tensor:
    """Computes the log probability of each agent's own action in every joint action. It is finite if the logits are.

    Args:
        team: the team's logits, [B, S, N, A].
        actions: the joint actions, [J, N] int, as `joint_actions` lists them.

    Returns:
        Log probabilities in nats, [B, S, J, N].
    """
    chosen = tf.one_hot(actions, team.shape[-1], dtype=team.dtype)
    return tf.einsum("bsna,jna->bsjn", tf.nn.log_softmax(team), chosen)
