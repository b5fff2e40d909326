"""Means of few runs and their intervals."""

import numpy as np
import pytest

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
