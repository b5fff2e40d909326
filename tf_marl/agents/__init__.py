"""Decentralised PPO agents, each a TF-Agents `TFAgent`."""

from tf_marl.agents.variants import ippo

__all__ = ["ippo"]
