"""This package plays SMAC's maps in StarCraft II itself, with each game in a process of its own.

`installation` finds the game, the maps and smac. `worker` holds the player of one game, which `processes` runs. `core`
makes a live world of them. `installation` and `worker` do not import TensorFlow.
"""
