"""This package states the paper's claims as checks. Each check says lhs <= rhs about a Dec-MDP with two policies.

The paper is Sun et al., "Monotonic Improvement Guarantees under Non-stationarity for Decentralized PPO" (arXiv
2202.00082), published as "Trust Region Bounds for Decentralized PPO Under Non-stationarity" (AAMAS 2023). Statements go
by its numbers, and only as we read them: they were written from this project's notes on the paper, without its text at
hand. The exact wording of Propositions 1, 3 and 4 and of equation 9 is the least certain. A statement may leave a
choice: which state distribution, which advantage, the maximum over which ratios. Then each reading of it has a name and
a result of its own. Readings of "Sharper facts", and those marked (ours), are not claims of the paper.

Theorem 1 is Theorem 1 of Schulman et al. 2015, "Trust Region Policy Optimization", applied to the team's joint policy:

    eta(pi~) >= eta(pi) + sum_s rho(s) sum_a pi~(a | s) A(s, a) - 4 max|A| gamma / (1 - gamma)^2 alpha^2

Here alpha is the largest total variation over states. All checks multiply returns by 1 - gamma, so that numbers of
different Dec-MDPs can be compared.
"""

from tf_marl.dec_mdp.statements import bounds, marginals, sharper, transitions
from tf_marl.dec_mdp.statements.case import TOLERANCE, Case, Claim, Condition, Reading

__all__ = ["READINGS", "TOLERANCE", "Case", "Claim", "Condition", "Reading"]

READINGS = (*transitions.READINGS, *bounds.READINGS, *marginals.READINGS, *sharper.READINGS)
