"""Decentralised PPO and its variants IPPO, MAPPO and joint-ratio PPO."""
