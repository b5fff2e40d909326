"""Decentralised PPO agents, each a TF-Agents `TFAgent`."""

from tf_marl.agents.ppo.variants import ippo, jr_ppo, mappo

__all__ = ["ippo", "jr_ppo", "mappo"]
