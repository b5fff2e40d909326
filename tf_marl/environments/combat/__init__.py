"""SMAC's 23 maps without StarCraft II.

`units` and `scenarios` hold the numbers, `terrain` the ground, `physics` the laws of battle, `task` SMAC's rules around
it, `options` what can be switched, `scripts` teams that need no learning; `environment` joins them.

Sizes, actions, observation, state, reward and ending are SMAC's; unit values, rosters, spawn points, orders, limits and
cliff levels are the game's own. **What is not known of the game for certain, what happens here instead, and what
speaks for it.** "Games" are the published games of scripted teams, against which `launch.calibrate` holds ours; "data"
are the game's own files (`smac.json` names them); "recordings" are GIFs of SMAC's maps played in the game, in
github.com/devindeng94/LLM-SMAC.

=================================  ====================================  ===============================================
not established                    here                                  evidence
=================================  ====================================  ===============================================
how units are packed at spawn      a square lattice, nearest first, of   recordings; of its eight turns and reflections
                                   equals counter-clockwise from the     for the agents, the games fit the recorded one
                                   south, not mirrored (`scenarios`);    best; neither rule nor spacing is documented
                                   0.05 map units of noise in y
formation of an attack-move        each enemy keeps its place in the     recordings, until contact
                                   group
how soon the first observation is  at the spawn itself, not some game    none
                                   loops after it
whether cliff lips can be walked   an estimate, equal to what others     none from the game
                                   drew from the map editor on two maps
whether all 32 x 32 can be played  yes, as far as the ground allows      none
the engine's choice of targets     who attacks one before who is         Liquipedia's page on automatic targeting
                                   merely in reach, then who is kept,    (threats first; a target is kept while in
                                   then the nearest (`physics`, 2);      range); games neither confirm nor refute it;
                                   nobody calls others for help          2m_vs_1z is won as in the game
how far enemies notice             the scan range, between centres       games, slightly, against edges
cooldown jitter                    uniform between -1 and 2 loops,       games: 2m_vs_1z comes to the very hit; whole
                                   a real number                         loops do not
paths                              straight if free, else along a        none
                                   shortest path of cells (`terrain`)
crowds                             walkers look for a way round those    games: corridor's zealots lose in the open and
                                   who stand, who do not yield           hold the neck, as there; constants are fitted
                                   (`physics`, 5)
order of events within a loop      simultaneous; mutual kills happen     games: one after the other fits no better
a changed order during an attack   takes it back before the first hit,   data: a zealot's hits and a colossus' beams are
                                   ends it after it; frees from the      channelled
                                   backswing
missiles                           fly at the data's speeds, from edge   data; games: 2s_vs_1sc is lost and won as in
                                   to centre; the spine crawler's        the game. The tentacle's 12 is its initial
                                   tentacle at 12                        speed: it fits better than its mean, 25
turrets                            the spine crawler's turns by 360      data. That it starts an attack anew at each new
                                   degrees a game second, all others     target is how 2s_vs_1sc is learned here
                                   at once
a colossus' two beams              the whole line at once, the second    data say some five loops later; games do not
                                   a loop after the first                ask for it
chains of bursts                   a baneling killed by a burst bursts   none
                                   in the next loop
an agent's healer without orders   does nothing; one sent to a unit in   none
                                   full health stays with it
an enemy's healer                  the least share of health in its      data (the ability's order of targets)
                                   range; without any hurt, it follows
                                   the nearest it could heal
an order the game would refuse     the agent stands (a marauder sent to  none
                                   attack a medivac)
flyers' acceleration               at once                               data: 2.3 map units a second, each second
order of the enemies in a list     the map's, always;                    games: one drawn for each battle fits
                                   `shuffle_enemies` draws one per
                                   episode
SMAC's cooldown constants          as they are, whatever their source    SMAC's code
why game builds 4.6.2 and 4.10     left open: their unit data are the    none
differ, and memory growth          same, and these are used
=================================  ====================================  ===============================================

Which of several rules the games fit better was looked at in a faster copy of the battle that is not kept; what
`launch.calibrate` measures is what came of it. The constants of crowds were fitted on 13 of the games' 17 maps. On
the four left aside for that (2s3z, 3s5z, MMM2, 5m_vs_6m) final rewards differ by 0.024 on average, on the others by
0.033.

What the games show and nothing here explains: zealots that all attack one zergling at a time (corridor, FF) hit less in
the game, two colossi that chase the weakest (2c_vs_64zg, AW) do better and those that change sides (Pos) worse, eight
marines that fire at one (8m, FF) win less often, ten that fire at the nearest (10m_vs_11m, AC) more often.

Win rates here are therefore not win rates in StarCraft II; how far they are from them is measured.
"""
