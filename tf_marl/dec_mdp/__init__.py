"""This package tests the paper's theorems on Dec-MDPs that are small enough to compute every quantity exactly.

The paper is "Monotonic Improvement Guarantees under Non-stationarity for Decentralized PPO".

    model.py       defines a Dec-MDP as tables, and the team's policy in it
    exact.py       computes values, advantages and state distributions by linear solves, and each agent's view of them
    generators.py  draws random Dec-MDPs by the thousand, and builds games with known answers
    statements/    states what the paper claims as inequalities, lhs <= rhs, that can be checked on an instance
    falsify.py     searches for counterexamples, simplifies them and saves them to files
    learning.py    trains IPPO, MAPPO, joint-ratio PPO and HAPPO with exact advantages; measures true returns

Ratios, clipped surrogates and total variations come from `tf_marl.ops`, so they are those that training uses. Tensors
are float64 unless a docstring says otherwise, and batched over instances. The letters in shapes are:

    B  instances (Dec-MDPs)
    S  states
    N  agents
    O  local states: what one agent may observe
    A  actions of one agent
    J  joint actions, A^N
    K  possible successors of a state and a joint action
"""
