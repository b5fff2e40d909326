"""This package plays environments of others, and of your own, that follow PettingZoo's or Gymnasium's conventions.

`of_pettingzoo` and `of_gymnasium` are the two backends. `core` makes a live world of an environment. `worker` holds the
player that `processes` runs, for any interpreter that has the environment; it imports nothing else of this project.
"""
