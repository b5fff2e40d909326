"""Statistics of a few training runs, with stratified bootstrap intervals that say how far to trust them.

Runs of one setting differ only by their seeds. The bootstrap resamples runs within each setting, so that no setting
gains weight by chance (Agarwal et al. 2021, arXiv:2108.13264).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 2000
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """Holds an estimated number and the ends of its 95% interval, which are nan where there are too few runs."""

    value: float
    low: float
    high: float


def estimate(statistic: Callable[..., Any], settings: Sequence[Any]) -> Estimate:
    """Estimates a statistic of training runs with a 95% interval from the stratified percentile bootstrap.

    Args:
        statistic: a function of one array per setting that returns a number. SciPy computes it faster if it also takes
            the argument `axis`.
        settings: for each setting, the values of its runs, [runs].

    Returns:
        The statistic of all runs and its interval, which is nan if some setting has only one run.
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
    """Returns the mean over the runs of all settings.

    Args:
        *settings: for each setting, the values of its runs, [..., runs].
        axis: the axis of the runs.

    Returns:
        The means, [...], or a scalar.
    """
    return np.mean(np.concatenate(settings, axis), axis)


def interquartile_mean(*settings: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns the interquartile mean, which is the mean of the middle half of the runs of all settings.

    Args:
        *settings: for each setting, the values of its runs, [..., runs].
        axis: the axis of the runs.

    Returns:
        The means, [...], or a scalar.
    """
    return stats.trim_mean(np.concatenate(settings, axis), 0.25, axis)
