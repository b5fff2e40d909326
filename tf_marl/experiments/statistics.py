"""Means of few runs, and how far to trust them: stratified bootstrap intervals, by SciPy.

Runs of one setting differ by seed alone. A quantity of several settings is resampled within each of them, so that none
gains weight by chance (Agarwal et al. 2021, arXiv:2108.13264).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 2000
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A number, and the ends of its interval: nan where there are too few runs for one."""

    value: float
    low: float
    high: float


def estimate(statistic: Callable[..., Any], settings: Sequence[Any]) -> Estimate:
    """A statistic of runs, with its 95% stratified bootstrap interval, by percentiles.

    Args:
        statistic: (the runs of each setting: an array each) -> a number; faster if it takes an `axis`.
        settings: for each setting, its runs' values, one a seed. With one run only, there is no interval.
    """
    groups = [np.asarray(values, np.float64) for values in settings]
    value = float(statistic(*groups))
    if min(map(len, groups)) < 2:
        return Estimate(value, np.nan, np.nan)
    spread = stats.bootstrap(
        groups,
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = spread.confidence_interval
    return Estimate(value, float(low), float(high))


def mean(*settings: np.ndarray, axis: int = -1) -> np.ndarray:
    """Of all runs of all settings."""
    return np.mean(np.concatenate(settings, axis), axis)


def interquartile_mean(*settings: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the middle half of all runs of all settings."""
    return stats.trim_mean(np.concatenate(settings, axis), 0.25, axis)
