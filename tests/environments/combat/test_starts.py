"""SMACv2's draws of types and places, against the distributions that its rules imply."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tf_marl.environments.combat import scenarios
from tf_marl.environments.combat.starts import Start

B = 20_000
CENTRE, SIZE = 16.0, 32.0


def draw(race: str, n: int, m: int, seed: int = 0, **options) -> Start:
    lottery = scenarios.drawn(race, n, m, **options).lottery
    uniforms = tf.random.stateless_uniform([lottery.num_uniforms, B], [seed, 1])
    return Start(*(leaf.numpy() for leaf in lottery.start(uniforms)))


def assert_fits(observed, expected):
    """Chi-square at a level that a right draw misses once in ten thousand seeds; the seed is fixed."""
    assert stats.chisquare(observed, np.asarray(expected) * np.sum(observed)).pvalue > 1e-4


def assert_uniform(values, low, high):
    assert stats.kstest((values - low) / (high - low), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("race", ["protoss", "terran", "zerg"])
def test_types_are_drawn_by_their_weights(race):
    start = draw(race, 10, 10)
    # A team of ten exceptions is drawn again, but one in 10^10 is.
    assert_fits(np.bincount(start.kinds[:10].ravel(), minlength=3), [0.45, 0.45, 0.1])


def test_types_of_a_team_are_independent_but_for_exceptions():
    """Of two agents with a type t that makes up no team: P(i, j) = w_i w_j / (1 - w_t^2), but not both t."""
    start = draw("terran", 2, 3)
    pairs = np.bincount(3 * start.kinds[2] + start.kinds[3], minlength=9)  # the enemies' copy is not sorted
    weights = np.outer([0.45, 0.45, 0.1], [0.45, 0.45, 0.1]).ravel()
    assert pairs[8] == 0
    assert_fits(pairs[:8], weights[:8] / (1 - 0.01))


def test_a_single_extra_enemy_is_no_exception():
    kinds = draw("zerg", 2, 3).kinds[4]
    assert_fits(np.bincount(kinds, minlength=3)[:2], [0.5, 0.5])
    assert (kinds < 2).all()  # a baneling would be a team of its own


def test_protoss_teams_may_be_all_colossi():
    kinds = draw("protoss", 2, 2).kinds
    assert stats.binomtest(int((kinds[:2] == 2).all(0).sum()), B, 0.01).pvalue > 1e-4


def test_any_weights_and_exceptions_can_be_drawn():
    """Each of three agents is a marine or a marauder with probability 0.1; somebody is not a medivac."""
    weights = {"weights": (0.06, 0.04, 0.9), "exceptions": ("medivac",)}
    kinds = draw("terran", 3, 3, **weights).kinds[3:]
    fighters = np.bincount((kinds < 2).sum(0), minlength=4)
    assert fighters[0] == 0
    binomial = stats.binom.pmf([1, 2, 3], 3, 0.1)
    assert_fits(fighters[1:], binomial / binomial.sum())
    assert_fits(np.bincount(kinds[kinds < 2], minlength=2), [0.6, 0.4])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": (0.5, 0.6, 0.1)}, "add up to 1"),
        ({"exceptions": ("marine", "marauder", "medivac")}, "no exception"),
    ],
)
def test_impossible_draws_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        scenarios.drawn("terran", 5, 5, **wrong)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (10, 11), (4, 2)])
def test_enemies_are_a_copy_and_mirrored_starts_are_mirrored(n, m):
    start = draw("terran", n, m, surrounded=0.0)
    own = np.stack([start.kinds, start.x, start.y], axis=-1)[:n]
    theirs = np.stack([start.kinds, SIZE - start.x, start.y], axis=-1)[n:][:n]
    # Agents are sorted and enemies are not, so each enemy is somebody's copy.
    is_copy = np.isclose(own[:, None, :100], theirs[None, :, :100], atol=1e-4).all(-1)  # [N, M, battles]
    assert (is_copy.sum(0) == 1).all()
    assert (is_copy.sum((0, 1)) == min(n, m)).all()


def test_mirrored_places_are_uniform():
    start = draw("protoss", 2, 4, surrounded=0.0)
    assert_uniform(start.x[:2].ravel(), 0, 15)
    assert_uniform(start.y[:2].ravel(), 0, SIZE)
    assert_uniform(start.x[4:].ravel(), CENTRE, SIZE)  # the enemies without a counterpart
    assert_uniform(start.y[4:].ravel(), 0, SIZE)


def test_half_of_the_starts_are_surrounded():
    start = draw("protoss", 1, 1)
    surrounded = (start.x[0] == CENTRE) & (start.y[0] == CENTRE)
    assert stats.binomtest(int(surrounded.sum()), B, 0.5).pvalue > 1e-4


def test_a_surrounding_enemy_stands_anywhere_on_any_diagonal():
    """t (centre +- 2) + (1 - t) corner, t uniform, is a distance from 2 to 16 in x and in y."""
    start = draw("zerg", 1, 1, surrounded=1.0)
    dx, dy = start.x[1] - CENTRE, start.y[1] - CENTRE
    np.testing.assert_allclose(np.abs(dx), np.abs(dy), atol=1e-4)
    assert_uniform(np.abs(dx), 2, 16)
    assert_fits(np.bincount(2 * (dx > 0) + (dy > 0), minlength=4), [0.25] * 4)


def test_enemies_split_equally_among_one_to_four_groups():
    """Two enemies share a group with probability 1 / g, g uniform in 1 to 4; other groups are on other diagonals."""
    start = draw("zerg", 1, 2, surrounded=1.0)
    quadrant = 2 * (start.x[1:] > CENTRE) + (start.y[1:] > CENTRE)
    together = int((quadrant[0] == quadrant[1]).sum())
    assert stats.binomtest(together, B, np.mean([1, 1 / 2, 1 / 3, 1 / 4])).pvalue > 1e-4


@pytest.mark.parametrize("name", [name for name in scenarios.drawn_names() if "20" in name])
def test_nobody_of_a_group_stands_in_another_or_off_the_map(name):
    scenario = scenarios.scenario(name)
    n = scenario.num_agents
    start = draw(name.split("_")[0], n, scenario.num_enemies, surrounded=1.0)
    places = np.stack([start.x, start.y])
    assert places.min() >= 0
    assert places.max() <= SIZE
    radius = np.array([unit.separation_radius for unit in scenario.lottery.types])[start.kinds[:n, :200]]
    x, y = start.x[:n, :200], start.y[:n, :200]
    gap = np.hypot(x[:, None] - x, y[:, None] - y) - radius[:, None] - radius
    assert gap[~np.eye(n, dtype=bool)].min() > -0.2  # the first four stand a little nearer, as on SMAC's maps


@pytest.mark.parametrize(
    ("race", "order"),
    [
        ("protoss", ["colossus", "stalker", "zealot"]),
        ("terran", ["marauder", "marine", "medivac"]),
        ("zerg", ["baneling", "hydralisk", "zergling"]),
    ],
)
@pytest.mark.parametrize("surrounded", [0.0, 1.0])
def test_agents_are_sorted_by_type_x_and_y(race, order, surrounded):
    start = draw(race, 6, 6, surrounded=surrounded)
    names = [unit.name for unit in scenarios.drawn(race, 6, 6).lottery.types]
    for battle in range(200):
        keys = [(order.index(names[start.kinds[i, battle]]), start.x[i, battle], start.y[i, battle]) for i in range(6)]
        assert keys == sorted(keys)
