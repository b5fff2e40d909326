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

from tf_marl.dec_mdp.statements import bounds, marginals, sharper, transitions
from tf_marl.dec_mdp.statements.case import TOLERANCE, Case, Claim, Condition, Reading

__all__ = ["READINGS", "TOLERANCE", "Case", "Claim", "Condition", "Reading"]

READINGS = (*transitions.READINGS, *bounds.READINGS, *marginals.READINGS, *sharper.READINGS)
