"""Holds the commands: flags in, one call, a summary out. The one place that knows every other.

`tf-marl train` runs `train.py`, and so on. A checkout has this package beside `tf_marl`; a wheel has it inside,
as `tf_marl.launch`.
"""
