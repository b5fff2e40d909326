"""Agents are TF-Agents `TFAgent`s that learn from rollouts, all of them subclasses of `learner.Learner`."""

from tf_marl.agents.coma import coma
from tf_marl.agents.maddpg import maddpg
from tf_marl.agents.ppo.trust_region import a2po, happo, hatrpo, itrpo, ps_trpo, trpo
from tf_marl.agents.ppo.variants import coppo, ippo, jr_ppo, mappo
from tf_marl.agents.reinforce import reinforce
from tf_marl.agents.value.variants import iql, qmix, vdn

__all__ = [
    "a2po",
    "coma",
    "coppo",
    "happo",
    "hatrpo",
    "ippo",
    "iql",
    "itrpo",
    "jr_ppo",
    "maddpg",
    "mappo",
    "ps_trpo",
    "qmix",
    "reinforce",
    "trpo",
    "vdn",
]
