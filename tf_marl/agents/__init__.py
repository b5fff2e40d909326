"""Agents are TF-Agents `TFAgent`s that learn from rollouts, all of them subclasses of `learner.Learner`."""

from tf_marl.agents.ppo.variants import ippo, jr_ppo, mappo
from tf_marl.agents.reinforce import reinforce

__all__ = ["ippo", "jr_ppo", "mappo", "reinforce"]
