"""Decentralised PPO and its variants."""
