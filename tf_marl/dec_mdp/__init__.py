"""An exact laboratory for the paper's theorems: Dec-MDPs so small that all they are about can be computed.

model.py       what a Dec-MDP is, and the team's policy in it
exact.py       its values, advantages and state distributions, by linear solves; what one agent sees, by marginalisation
generators.py  random ones by the thousand, and games with known answers
statements/    the paper's statements, reading by reading: lhs <= rhs on an instance
falsify.py     the search for a counterexample, its minimisation, and the file that keeps it
learning.py    IPPO, MAPPO and joint-ratio PPO with exact advantages: the true return after every update

Ratios, clipped surrogates and total variations are `tf_marl.ops`, those that training uses. Everything is float64 and
batched over instances. Shapes: B instances, S states, N agents, O local states (what an agent may observe), A actions
of an agent, J = A^N joint actions, K successors of a state and a joint action.
"""
