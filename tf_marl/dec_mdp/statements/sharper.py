"""This module states facts that are sharper than the paper's claims; none of them is a claim of the paper."""

import tensorflow as tf

from tf_marl.dec_mdp.statements.case import Case, Claim, Reading, identity
from tf_marl.ops import total_variation


def _achiam(case: Case) -> Claim:
    expected = tf.reduce_sum(case.new.policy * case.old.advantage, axis=2)
    largest = tf.reduce_max(tf.abs(expected), axis=1)
    mean_tv = tf.reduce_sum(case.states * case.joint_tv, axis=1)
    rhs = 2.0 * case.mdp.gamma / case.horizon * largest * mean_tv
    return Claim(case.joint_surrogate(case.states) - case.gain, rhs)


def _performance_difference(case: Case) -> Claim:
    gain = tf.reduce_sum(case.new.visits[..., None] * case.new.policy * case.old.advantage, axis=[1, 2])
    return identity(case.gain - case.horizon * gain)


def _above(case: Case) -> tf.Tensor:
    """Computes how far each agent's largest ratio exceeds 1, [B, S, N]; ratios below 1 do not count."""
    return tf.maximum(tf.reduce_max(case.ratio - 1.0, axis=2), 0.0)


READINGS = (
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
