"""This package plays JaxMARL's SMAX in a worker process, by an interpreter that has JAX and jaxmarl.

`worker` holds the player that `processes` runs; it imports nothing else of this project. `core` makes a live world of
it.
"""
