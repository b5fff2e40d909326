"""This module states Proposition 1: how policy changes shift the transitions that an agent sees, and in which parts.

An agent's own change causes the endogenous part of the shift, the change of the other agents the exogenous part.
"""

import itertools
from collections.abc import Callable

import tensorflow as tf

from tf_marl.dec_mdp import exact
from tf_marl.dec_mdp.statements.case import ALONE, SEES_ALL, Case, Claim, Reading, identity


def _one_after_another(case: Case) -> Claim:
    teams = [exact.moved(case.old_team, case.new_team, list(range(k))) for k in range(case.num_agents + 1)]
    steps = [exact.transition_shift(case.mdp, *pair) for pair in itertools.pairwise(teams)]
    return identity(exact.transition_shift(case.mdp, case.old_team, case.new_team) - tf.add_n(steps))


def _alone(case: Case, agent: int) -> tf.Tensor:
    return exact.moved(case.old_team, case.new_team, [agent])


def _endogenous_and_exogenous(case: Case) -> Claim:
    whole = exact.transition_shift(case.mdp, case.old_team, case.new_team)
    differences = []
    for k in range(case.num_agents):
        endogenous = exact.transition_shift(case.mdp, case.old_team, _alone(case, k))
        exogenous = exact.transition_shift(case.mdp, _alone(case, k), case.new_team)
        differences.append(whole - endogenous - exogenous)
    return identity(tf.stack(differences, axis=1))


def _each_alone(case: Case) -> Claim:
    parts = [exact.transition_shift(case.mdp, case.old_team, _alone(case, k)) for k in range(case.num_agents)]
    return identity(exact.transition_shift(case.mdp, case.old_team, case.new_team) - tf.add_n(parts))


def _local_one_after_another(own_states: bool) -> Callable[[Case], Claim]:
    """Returns the check that the shifts of local kernels add up, for every agent, [B, N, O, O].

    A local kernel takes the states behind a local state as the old team visits them, or as its own team does.
    """

    def check(case: Case) -> Claim:
        agents = range(case.num_agents)
        teams = [exact.moved(case.old_team, case.new_team, list(range(k))) for k in range(case.num_agents + 1)]
        found = [exact.evaluate(case.mdp, team) for team in teams]
        differences = []
        for k in agents:
            weights = [team.visits if own_states else case.old.visits for team in found]
            kernels = [exact.local(case.mdp, *pair, k).kernel for pair in zip(found, weights, strict=True)]
            steps = [after - before for before, after in itertools.pairwise(kernels)]
            differences.append(kernels[-1] - kernels[0] - tf.add_n(steps))
        return identity(tf.stack(differences, axis=1))

    return check


def _moved_weights(case: Case) -> Claim:
    """Claims that local kernels shift by at most the agents' changes and the change of what is behind, [B, N, O]."""
    bound = tf.reduce_max(tf.reduce_sum(case.agent_tv, axis=-1), axis=1)[:, None]
    sizes, bounds = [], []
    for k, old in enumerate(case.locals):
        shift = exact.local(case.mdp, case.new, case.new.visits, k).kernel - old.kernel
        behind = [exact.given_local(case.mdp, team.visits, k) for team in (case.old, case.new)]
        sizes.append(0.5 * tf.reduce_sum(tf.abs(shift), axis=-1))
        bounds.append(bound + 0.5 * tf.reduce_sum(tf.abs(behind[1] - behind[0]), axis=1))
    return Claim(tf.stack(sizes, axis=1), tf.stack(bounds, axis=1))


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


READINGS = (
    Reading("Proposition 1", "shift = its parts, agents changing one after another", _one_after_another),
    Reading("Proposition 1", "local kernels by the old visits: shift = its parts", _local_one_after_another(False)),
    Reading("Proposition 1", "local kernels by each team's own visits: shift = parts", _local_one_after_another(True)),
    Reading("Proposition 1", "shift = endogenous + exogenous part, for each agent", _endogenous_and_exogenous),
    Reading(
        "Proposition 1",
        "shift = sum of each agent's, the others as before",
        _each_alone,
        ALONE,
        "shift = its parts, agents changing one after another",
    ),
    Reading("Proposition 1", "size of the shift <= sum_k TV_k at every state", _shift_size),
    Reading("Proposition 1", "exogenous part <= sum of the others' TV at every state", _exogenous_size),
    Reading("Proposition 1", "local kernels by the old visits: size <= largest sum_k TV_k", _local_shift(False)),
    Reading(
        "Proposition 1",
        "local kernels by each team's own visits: size <= largest sum_k TV_k",
        _local_shift(True),
        SEES_ALL,
        "local kernels by each team's own visits: size <= that + TV of what is behind",
    ),
    Reading("Repaired", "local kernels by each team's own visits: size <= that + TV of what is behind", _moved_weights),
)
