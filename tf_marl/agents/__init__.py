"""Agents, each a TF-Agents `TFAgent` that learns from rollouts: see `learner.py`."""

from tf_marl.agents.ppo.variants import ippo, jr_ppo, mappo
from tf_marl.agents.reinforce import reinforce

__all__ = ["ippo", "jr_ppo", "mappo", "reinforce"]
