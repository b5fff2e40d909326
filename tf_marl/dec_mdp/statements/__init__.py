"""This package states the paper's claims as checks. Each check says lhs <= rhs about a Dec-MDP with two policies.

The paper is Sun et al., "Monotonic Improvement Guarantees under Non-stationarity for Decentralized PPO" (arXiv
2202.00082). Statements go by its numbers. Where a statement leaves a choice (which state distribution, which advantage,
the maximum over which ratios) or its proof defines a quantity otherwise, each reading has a name and a result of its
own. A reading that fails names the one that holds in its place. Statements called "Ours" and "Repaired" are no claims
of the paper.

    transitions.py  Proposition 1: how policy changes shift the transitions that an agent sees
    bounds.py       Propositions 2 and 3, Theorems 1 and 3, equation 9; sharper bounds of ours
    theorem_2.py    Theorem 2 in all its readings, the steps of its proof, and what repairs it
    critics.py      Proposition 4 and section 6.3: what critics converge to

Theorem 1 is Theorem 1 of Schulman et al. 2015, "Trust Region Policy Optimization", applied to the team's joint policy:

    eta(pi~) >= eta(pi) + sum_s rho(s) sum_a pi~(a | s) A(s, a) - 4 max|A| gamma / (1 - gamma)^2 alpha^2

Here alpha is the largest total variation over states. All checks multiply returns by 1 - gamma, so that numbers of
different Dec-MDPs can be compared.
"""

from tf_marl.dec_mdp.statements import bounds, critics, theorem_2, transitions
from tf_marl.dec_mdp.statements.case import TOLERANCE, Case, Claim, Condition, Reading, Stratum
from tf_marl.dec_mdp.statements.theorem_2 import STRATA

__all__ = ["READINGS", "STRATA", "TOLERANCE", "Case", "Claim", "Condition", "Reading", "Stratum"]

READINGS = (*transitions.READINGS, *bounds.READINGS, *theorem_2.READINGS, *critics.READINGS)
