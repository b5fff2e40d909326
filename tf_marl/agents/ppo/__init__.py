"""Decentralised PPO comes in three variants: IPPO, MAPPO and joint-ratio PPO."""
