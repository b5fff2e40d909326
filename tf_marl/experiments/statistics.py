"""Statistics of a few training runs, with stratified bootstrap intervals that say how far to trust them.

Runs of one setting differ only by their seeds. The bootstrap resamples runs within each setting, so that no setting
gains weight by chance. Settings may be maps: then the scores of an algorithm on all maps, each in [0, 1], become one
number by the interquartile mean, the median, the mean or the optimality gap, and two algorithms are compared by the
probability of improvement (Agarwal et al. 2021, arXiv:2108.13264).
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


def median(*settings: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns the median over settings of the mean over each one's runs.

    Args:
        *settings: for each setting, the values of its runs, [..., runs].
        axis: the axis of the runs.

    Returns:
        The medians, [...], or a scalar.
    """
    return np.median([np.mean(runs, axis) for runs in settings], axis=0)


def optimality_gap(*settings: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns by how much the runs of all settings fall short of a score of 1, in the mean; more than 1 counts as 1.

    Args:
        *settings: for each setting, the scores of its runs, [..., runs].
        axis: the axis of the runs.

    Returns:
        The gaps, [...], or a scalar.
    """
    return np.mean(1.0 - np.minimum(np.concatenate(settings, axis), 1.0), axis)


def probability_of_improvement(*settings: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns how likely a run of one algorithm scores higher than a run of another, on a setting drawn at random.

    Equal scores count half. On each setting it is Mann and Whitney's U over the number of pairs.

    Args:
        *settings: for each setting, the scores of the first algorithm's runs, [..., runs]; then for each setting, in
            the same order, those of the second's.
        axis: the axis of the runs.

    Returns:
        Probabilities, [...], or a scalar.
    """
    half = len(settings) // 2
    shares = []
    for first, second in zip(settings[:half], settings[half:], strict=True):
        ahead = np.expand_dims(np.moveaxis(first, axis, -1), -1) - np.expand_dims(np.moveaxis(second, axis, -1), -2)
        shares.append(np.mean(0.5 + 0.5 * np.sign(ahead), axis=(-2, -1)))
    return np.mean(shares, axis=0)


def share_above(threshold: float, *settings: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns the share of the runs of all settings whose score is above a threshold: a point of a performance profile.

    Args:
        threshold: of the score.
        *settings: for each setting, the scores of its runs, [..., runs].
        axis: the axis of the runs.

    Returns:
        Shares, [...], or a scalar.
    """
    return np.mean(np.concatenate(settings, axis) > threshold, axis)
