"""Agents are TF-Agents `TFAgent`s that learn from rollouts, all of them subclasses of `learner.Learner`."""

from tf_marl.agents.ppo.trust_region import a2po, happo, hatrpo, itrpo, ps_trpo, trpo
from tf_marl.agents.ppo.variants import coppo, ippo, jr_ppo, mappo
from tf_marl.agents.reinforce import reinforce

__all__ = ["a2po", "coppo", "happo", "hatrpo", "ippo", "itrpo", "jr_ppo", "mappo", "ps_trpo", "reinforce", "trpo"]
