"""SMAC's 23 maps without StarCraft II.

`units` and `scenarios` hold the numbers, `terrain` the ground, `physics` the laws of battle, `task` SMAC's rules around
it, `options` what can be switched, `scripts` teams that need no learning; `environment` joins them.

Sizes, actions, observation, state, reward and ending are SMAC's; unit values, rosters, spawn points, orders, limits and
cliff levels are the game's own. **What is not known of the game, and what happens here instead:**

=================================  =====================================================================================
not established                    here
=================================  =====================================================================================
how units are packed at spawn      nearest free places round the point, in sight of it; enemies mirrored left to right;
                                   0.05 map units of noise in y (`scenarios`)
how soon the first observation is  at the spawn itself, not some game loops after it
whether cliff lips can be walked   an estimate, equal to what others drew from the map editor on two maps (`smac.json`)
whether all 32 x 32 can be played  yes, as far as the ground allows
the engine's choice of targets     keep whom one reaches or who attacks one; else the nearest of those who attack, or
                                   hit last; else the nearest noticed (`physics`, 2); nobody calls others for help
paths                              straight if free, else along a shortest path of cells (`terrain`)
pushing and sliding                overlapping units make way, walkers more than standers (`physics`, 5); crowds may
                                   overlap for some loops
order of events within a loop      simultaneous; mutual kills happen (`physics`)
a changed order during an attack   takes it back before the first hit; frees from the backswing after it
projectiles                        none: hits land when they are due
a colossus' two beams              the whole line at once, the second a loop after the first
chains of bursts                   a baneling killed by a burst bursts in the next loop
an agent's healer without orders   does nothing; one sent to a unit in full health stays with it
an enemy's healer                  the weakest hurt unit in its range; without any, it follows the nearest it could heal
an order the game would refuse     the agent stands (a marauder sent to attack a medivac)
flyers' acceleration               at once
order of the enemies in a list     the map's, always; `shuffle_enemies` draws one per episode
SMAC's cooldown constants          as they are, whatever their source (`smac.json`)
why game builds 4.6.2 and 4.10     left open: their unit data are the same, and these are used
differ, and memory growth
=================================  =====================================================================================

Win rates here are therefore not win rates in StarCraft II.
"""
