"""This package puts the embedded battle behind SMAC's own Python API, for code written for `smac.env.StarCraft2Env`.

It also has SMACv2's wrapper, for code written for `smacv2`'s `StarCraftCapabilityEnvWrapper`.

Observation, state and reward are SMAC's with all their oddities, which `combat/task.py` lists. Return values are
SMAC's, too. A few things differ, because they can be simpler here:

- `reset` may be called at any time.
- The reward is always a float.
- `get_stats` gives a win rate of 0 before the first battle is over.
- A refused action leaves `last_action` as it was.
- The units of both sides have the game's stock type ids.
- Nothing crashes, so `info` is never empty.
- Settings can be read as attributes with SMAC's names, but only the constructor sets them.
"""

from tf_marl.environments.smac_api.environment import CombatEnv
from tf_marl.environments.smac_api.protocol import Direction
from tf_marl.environments.smac_api.wrapper import StarCraftCapabilityEnvWrapper

__all__ = ["CombatEnv", "Direction", "StarCraftCapabilityEnvWrapper"]
