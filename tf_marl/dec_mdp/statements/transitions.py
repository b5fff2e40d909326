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
    Reading("Proposition 1", "shift = endogenous + exogenous part, for each agent", _endogenous_and_exogenous),
    Reading("Proposition 1", "shift = sum of each agent's, the others as before", _each_alone, ALONE),
    Reading("Proposition 1", "size of the shift <= sum_k TV_k at every state", _shift_size),
    Reading("Proposition 1", "exogenous part <= sum of the others' TV at every state", _exogenous_size),
    Reading("Proposition 1", "local kernels, old state distribution: shift <= sum_k TV_k", _local_shift(False)),
    Reading("Proposition 1", "local kernels, each its own state distribution", _local_shift(True), SEES_ALL),
)
