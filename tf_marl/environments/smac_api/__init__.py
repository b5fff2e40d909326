"""The embedded battle behind SMAC's own Python API, for code written for `smac.env.StarCraft2Env`.

Where SMAC has oddities of return values, they are kept: see `combat/task.py` for observation, state and reward. What
differs, because here it can be simpler: `reset` may be called at any time; the reward is always a float; `get_stats`
gives a win rate of 0 before the first battle is over; a refused action leaves `last_action` as it was; both sides'
units have the game's stock type ids; there are no crashes, so `info` is never empty. Settings can be read as SMAC's
attributes of the same names, but are set by the constructor alone.
"""

from tf_marl.environments.smac_api.environment import CombatEnv
from tf_marl.environments.smac_api.protocol import Direction

__all__ = ["CombatEnv", "Direction"]
