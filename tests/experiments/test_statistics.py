"""Means of few runs and their intervals."""

import functools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from tf_marl.experiments import statistics


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    samples = rng.normal(3.0, 1.0, [40, 2, 20])  # two settings of one mean
    found = [statistics.estimate(statistics.mean, list(sample)) for sample in samples]
    assert 34 <= sum(one.low <= 3.0 <= one.high for one in found) <= 40


def test_settings_are_resampled_each_by_itself():
    # Settings far apart, with little chance in each: resampling them together would give a wide interval.
    found = statistics.estimate(statistics.mean, [[0.0, 0.01, 0.02], [10.0, 10.01, 10.02]])
    assert found.value == pytest.approx(5.01)
    assert 5.0 <= found.low < found.value < found.high <= 5.02


def test_one_run_has_no_interval():
    found = statistics.estimate(statistics.mean, [[1.0, 2.0], [6.0]])
    assert found.value == 3.0
    assert np.isnan([found.low, found.high]).all()


def test_the_interquartile_mean_is_of_the_middle_half_of_all_runs():
    # Sorted: 0 1 2 3 4 5 6 100; the middle half is 2 to 5.
    assert statistics.interquartile_mean(np.array([0.0, 2, 4, 100]), np.array([1.0, 3, 5, 6])) == 3.5


def test_aggregates_worked_by_hand():
    easy, hard, middling = np.array([1.0, 1.0]), np.array([0.0, 0.2]), np.array([0.5, 0.7])
    assert statistics.median(easy, hard, middling) == pytest.approx(0.6)  # of 1, 0.1 and 0.6
    assert statistics.optimality_gap(np.array([0.5, 1.2])) == pytest.approx(0.25)  # 0.5 and 0
    assert statistics.share_above(0.5, easy, middling) == 0.75  # 0.5 itself is not above
    # 1 beats 0.5 and ties with 1: (1 + 0.5) / 2; 0.2 and 0.3 always beat 0.1.
    first, second = [np.array([1.0]), np.array([0.2, 0.3])], [np.array([0.5, 1.0]), np.array([0.1])]
    assert statistics.probability_of_improvement(*first, *second) == pytest.approx((0.75 + 1.0) / 2)


@hypothesis.given(seed=st.integers(0, 2**32 - 1), levels=st.integers(2, 50))
def test_probability_of_improvement_is_mann_and_whitneys_share_of_pairs(seed, levels):
    rng = np.random.default_rng(seed)
    first, second = ([rng.integers(levels, size=n) / levels for n in sizes] for sizes in ((3, 5), (4, 2)))
    shares = [stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)) for a, b in zip(first, second, strict=True)]
    assert statistics.probability_of_improvement(*first, *second) == pytest.approx(np.mean(shares))
    back = statistics.probability_of_improvement(*second, *first)
    assert back == pytest.approx(1.0 - np.mean(shares))


@pytest.mark.parametrize(
    "statistic",
    [
        statistics.mean,
        statistics.median,
        statistics.interquartile_mean,
        statistics.optimality_gap,
        statistics.probability_of_improvement,
        functools.partial(statistics.share_above, 0.4),
    ],
)
def test_many_resamples_at_once_give_what_each_gives(statistic):
    rng = np.random.default_rng(0)
    settings = [rng.random([6, runs]) for runs in (3, 4, 5, 3)]
    each = [statistic(*(runs[i] for runs in settings)) for i in range(6)]
    np.testing.assert_allclose(statistic(*settings, axis=-1), each)
