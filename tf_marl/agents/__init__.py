"""Agents are TF-Agents `TFAgent`s that learn from rollouts, all of them subclasses of `learner.Learner`."""

from tf_marl.agents.coma import coma
from tf_marl.agents.ppo.variants import ippo, jr_ppo, mappo
from tf_marl.agents.reinforce import reinforce
from tf_marl.agents.value.variants import iql, qmix, vdn

__all__ = ["coma", "ippo", "iql", "jr_ppo", "mappo", "qmix", "reinforce", "vdn"]
