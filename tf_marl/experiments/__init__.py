"""Experiments that consist of whole training runs: sweeps, their tables, statistics, champions and comparisons."""
