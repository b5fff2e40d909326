"""This package plays SMAC's maps in StarCraft II itself, with each game in a process of its own.

`installation` finds the game, the maps and smac. `worker` is the program that runs one game. `games` starts the workers
and talks to them. `core` makes a live world of them. `installation` and `worker` do not import TensorFlow.
"""
