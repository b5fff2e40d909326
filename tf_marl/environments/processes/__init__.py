"""This package plays environments that are neither TensorFlow's nor this project's, in worker processes.

`worker` is the script that every worker runs. It loads a file of the world that it works for, which holds the class
`Player`. `workers` starts the workers and talks to them. `world` makes a live world of them. `worker` imports nothing
of this project, so that any interpreter can run it.
"""
