"""This package plays SMAC's 23 maps and SMACv2's 15 scenarios without StarCraft II.

SMAC is the StarCraft Multi-Agent Challenge: a team of agents fights a battle against enemies that the game leads. In
SMACv2, each battle draws its units and their places. Here the battle consists of TensorFlow operations alone. So B
battles run at once, and they compile into one XLA program with the policy that plays.

The modules:

- `units`: what each type of unit can do, as numbers.
- `scenarios`: the maps, with who fights whom, from where, on which ground and for how long.
- `starts`: how SMACv2's scenarios draw types and places.
- `roster`: the types of the units in a battle, as numbers for the rules.
- `terrain`: the ground and the paths across it.
- `physics`: how units move, fight, heal and die, one game loop (1/16 game second) at a time.
- `task`: SMAC's rules around the battle, with actions, observations, state, reward and episode end.
- `options`: what can be switched.
- `scripts`: teams that play by hand-written rules.
- `environment`: the world that joins all of these.
- `replay`: recorded battles as a web page, a GIF or a film.

**What is exact.** Sizes, actions, observations, state, reward and episode end are those of SMAC's and SMACv2's code,
and so are SMACv2's draws. Unit values, rosters, spawn points, enemy orders, time limits and cliff levels are those of
the game's own files.

**What is not.** Nobody has published all the rules by which StarCraft II resolves a battle. The tables below list
everything that is not known for certain, what happens here instead, and which evidence supports it:

- "Games" are the published results of scripted teams that played these maps in the game. `launch.calibrate` plays the
  same scripts here and compares the results.
- "Data" are the game's own data files; `smac.json` names them.
- "Recordings" are GIFs of SMAC's maps, played in the game, from github.com/devindeng94/LLM-SMAC.
- "None" marks an assumption that nothing supports.

**Start of a battle**

===========================  =============================================  ============================================
not known of the game        what happens here                              evidence
===========================  =============================================  ============================================
how the game places units    Units stand on a square lattice round their    Recordings. Of the lattice's eight turns and
at their spawn point         point. The nearest places are taken first,     reflections, the recorded one fits the games
                             and equally near ones counter-clockwise from   best for the agents. Neither the rule nor
                             the south. The two sides are not mirrored      the spacing is documented.
                             (`scenarios`). Every unit is shifted in y by
                             up to 0.05 map units, at random.
when the agents observe for  At the spawn itself. In the game some loops    None.
the first time               have passed by then.
where units stand that       On that lattice round their point, with steps as  None.
SMACv2 puts at one point     wide as the widest of them.
the order of the enemies in  It is always the map's. The option             Games: an order drawn for each battle fits.
SMAC's list                  `shuffle_enemies` draws an order for each
                             episode.
===========================  =============================================  ============================================

**Targets**

===========================  =============================================  ============================================
not known of the game        what happens here                              evidence
===========================  =============================================  ============================================
how enemies choose a target  An agent that attacks the enemy comes before   Liquipedia's page on automatic targeting:
                             one that is merely in reach, then the current  threats come first, and a target is kept
                             target is kept, then the nearest is taken      while it is in range. The games neither
                             (`physics`, step 2). Enemies do not call each  confirm nor refute it. 2m_vs_1z is won as in
                             other for help.                                the game.
how far enemies notice       Within the scan range, measured from centre    Games: slightly better than from edge to
agents                       to centre.                                     edge.
an order that the game       The agent stands still, for example a          None.
would refuse                 marauder that is sent against a medivac.
===========================  =============================================  ============================================

**Attacks and damage**

===========================  =============================================  ============================================
not known of the game        what happens here                              evidence
===========================  =============================================  ============================================
the random part of           A real number, uniform between -1 and 2 game   Games: 2m_vs_1z agrees to the exact hit.
cooldowns                    loops, is added to each period.                Whole numbers of loops do not agree.
the order of events within   All events are simultaneous, so two units can  Games: one after the other fits no better.
a game loop                  kill each other.
an order that changes        Before the first hit, the attack is taken      Data: the two hits of a zealot and the beams
during an attack             back. After the first hit, the later hits are  of a colossus are channelled.
                             lost. A new order also ends the backswing.
missiles                     They fly from the edge of the shooter to the   Data; games: 2s_vs_1sc is lost and won as in
                             centre of the target at the data's speed; the  the game. The tentacle accelerates. 12 is
                             spine crawler's tentacle at 12 map units per   its initial speed and fits better than its
                             game second.                                   mean, 25.
turrets                      The spine crawler's turret turns by 360        Data. Agents learn 2s_vs_1sc here because
                             degrees per game second. All other units aim   the crawler starts its attack again at each
                             at once.                                       new target.
the two beams of a colossus  Each beam hits its whole line at once, and     Data: some five loops lie between the beams.
                             the second beam comes one loop after the       The games do not require that.
                             first.
chains of exploding          A baneling that an explosion kills explodes    None.
banelings                    in the next loop.
===========================  =============================================  ============================================

**Movement**

===========================  =============================================  ============================================
not known of the game        what happens here                              evidence
===========================  =============================================  ============================================
whether units can walk on    An estimate, equal on two maps to what others  None from the game.
the lips of cliffs           drew from the map editor.
whether all 32 x 32 cells    Yes, as far as the ground is pathable.         None.
belong to the playable area
paths                        A unit walks straight if the way is free, and  None.
                             else along a shortest path of cells
                             (`terrain`).
the formation of an          Each enemy keeps its place in the group.       Recordings, until the sides meet.
attack-move
crowds                       Walking units look for a way round standing    Games: as in the game, corridor's zealots
                             ones, which do not yield (`physics`, step 5).  lose in the open and hold the narrow pass.
                                                                            The constants are fitted.
the acceleration of flying   They reach full speed at once.                 Data: 2.3 map units per game second, each
units                                                                       second.
===========================  =============================================  ============================================

**Healers**

===========================  =============================================  ============================================
not known of the game        what happens here                              evidence
===========================  =============================================  ============================================
an agent's healer without    It does nothing. If it is sent to a unit in    None.
an order                     full health, it stays with that unit.
an enemy's healer            It heals the unit with the smallest fraction   Data: the order in which the ability prefers
                             of its health in its scan range. If nobody     targets.
                             is hurt, it follows the nearest unit that it
                             could heal.
===========================  =============================================  ============================================

**Beyond the battle**

===========================  =============================================  ============================================
not known of the game        what happens here                              evidence
===========================  =============================================  ============================================
where SMAC's constants for   They are used as they are.                     SMAC's code.
normalising cooldowns come
from
why results differ between   Left open. The unit data of the two builds     None.
the game's builds 4.6.2 and  are the same, and those are used here.
4.10, and whether its
memory use grows
===========================  =============================================  ============================================

How the rules were chosen: where the games could decide between several rules, the rules were compared in a faster copy
of the battle, which is not part of this repository. What came of that choice is what `launch.calibrate` measures. The
constants of crowds were fitted on 13 of the 17 maps that the games cover. A game's final reward is the fraction of both
sides' health that the agents kept or took. On the four maps left out of the fit (2s3z, 3s5z, MMM2 and 5m_vs_6m), it
differs from the games' by 0.024 on average. On the 13 others it differs by 0.033.

Some results of the games remain unexplained:

- On corridor, zealots that all attack one zergling at a time (the script FF) hit less often in the game than here.
- On 2c_vs_64zg, two colossi that chase the weakest enemy (AW) do better in the game, and two that change sides (Pos) do
  worse.
- On 8m, eight marines that all fire at one enemy (FF) win less often in the game.
- On 10m_vs_11m, ten marines that fire at the nearest enemy (AC) win more often in the game.

So win rates here are not win rates in StarCraft II. `launch.calibrate` measures how far the two are apart.
"""
