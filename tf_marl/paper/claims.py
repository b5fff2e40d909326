"""The paper's claims, each judged from tables of runs by an estimated effect with a 95% interval.

    supported       the whole interval is where the claim puts the effect
    not supported   no part of the interval is there
    undecided       a part of it is there, or the runs that would tell are missing

Intervals are stratified bootstraps over seeds. They hold for these maps and this scale, not for others, and with three
seeds they are rather too short.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tf_marl.experiments import statistics
from tf_marl.experiments.statistics import Estimate
from tf_marl.paper.published import NO_CLIPPING

RETURN = "eval/return_mean"
SETTING = ["algorithm", "map", "num_agents", "rule"]
SMALL, LARGE = ("0.05", "0.1"), ("0.3", "0.5", "1.0", "none")
TOO_SMALL = ("0.01", "0.03")
MAX_RETURN = 20.0  # of SMAC's battles
EQUIVALENT = 0.1 * MAX_RETURN  # largest difference of returns between algorithms that count as equivalent
INF = float("inf")

_SUM, _JOINT = "trust_region/joint_tv_sum_max", "trust_region/joint_tv_max"


class Measure(NamedTuple):
    """Holds a statistic, and for each setting the values of its runs, [runs], which the statistic takes."""

    statistic: Callable[..., Any]
    settings: list[np.ndarray]


class Verdict(NamedTuple):
    """Holds the verdict on a claim."""

    claim: str
    effect: str  # the quantity that was estimated, and where the claim puts it
    estimate: Estimate
    verdict: str  # supported, not supported or undecided
    data: str  # numbers of maps and seeds, and which runs are missing, if any are


class _TooFew(Exception):
    """Signals that runs are missing; the message says which."""


def verdicts(curves: pd.DataFrame, first_updates: pd.DataFrame, percentiles: pd.DataFrame) -> list[Verdict]:
    """Judges all claims.

    Args:
        curves: the table `curves` of training runs (`sweep.open_tables`).
        first_updates: figure 1's table `table` (`figure_1.open_tables`).
        percentiles: figure 1's table `percentiles`.
    """
    # Runs with settings of our own, such as figure alpha's, are compared only with each other.
    paper, ours = (curves[curves.algorithm.str.startswith("paper/") == of_paper] for of_paper in (True, False))
    ippo, our_ippo = (table[table.algorithm.map(_last_part) == "ippo"] for table in (paper, ours))
    return [
        ratio_range_grows_with_epochs(first_updates),
        ratio_range_grows_slower_with_small_clips(first_updates),
        joint_tv_grows_linearly(first_updates, "joint_tv_sum_max", "the sum, in the first update"),
        joint_tv_grows_linearly(first_updates, "joint_tv_max", "the joint TV itself, in the first update"),
        joint_tv_grows_linearly_in_training(ippo, _SUM, "the sum, over training"),
        joint_tv_grows_linearly_in_training(ippo, _JOINT, "the joint TV itself, over training"),
        joint_tv_grows_linearly_in_training(our_ippo, _SUM, "the sum, over training by our settings"),
        joint_tv_grows_linearly_in_training(our_ippo, _JOINT, "the joint TV itself, over training by our settings"),
        epochs_matter_less_than_agents(first_updates),
        tv_spreads_without_clipping(percentiles),
        small_clips_improve_monotonically(ippo),
        small_clips_win(ippo),
        small_clips_win_with_more_agents(ippo),
        too_small_clips_learn_slowly(ippo),
        ippo_and_mappo_are_equivalent(paper),
        joint_clipping_is_less_sensitive(paper),
        rule_keeps_joint_tv_flat(our_ippo, "alpha / N"),
        rule_keeps_joint_tv_flat(our_ippo, "alpha / sqrt(N)"),
    ]


def ratio_range_grows_with_epochs(table: pd.DataFrame) -> Verdict:
    """Judges whether ratios spread further with epochs although they are clipped (figure 1a).

    Args:
        table: figure 1's table `table` (`figure_1.open_tables`).
    """
    clipped = table[table.clip_epsilon < NO_CLIPPING]

    def growth() -> Measure:
        late, early = (_ratio_ranges(clipped, epoch) for epoch in (99, 10))
        return Measure(statistics.mean, _groups(late / early, ["map", "clip_epsilon"]))

    claim = "The range of ratios grows with epochs"
    return _judge(claim, "range after 99 epochs over that after 10, with clipping: above 1", growth, (1, INF), clipped)


def ratio_range_grows_slower_with_small_clips(table: pd.DataFrame) -> Verdict:
    """Judges whether ratios spread more slowly with smaller clip ranges (figure 1a).

    Args:
        table: figure 1's table `table` (`figure_1.open_tables`).
    """

    def difference() -> Measure:
        growth = _ratio_ranges(table, 99) - _ratio_ranges(table, 10)
        frame = growth.unstack("clip_epsilon")
        if not {0.1, 0.3} <= set(frame):
            raise _TooFew("clip ranges 0.1 and 0.3")
        return Measure(statistics.mean, _groups((frame[0.3] - frame[0.1]).dropna(), ["map"]))

    claim = "The range of ratios grows slower for smaller clip ranges"
    effect = "growth from epoch 10 to 99 with clip 0.3 less that with 0.1: above 0"
    return _judge(claim, effect, difference, (0, INF), table)


def joint_tv_grows_linearly(table: pd.DataFrame, quantity: str, what: str) -> Verdict:
    """Judges whether the joint total variation after the first update grows linearly in N (figure 1c).

    Args:
        table: figure 1's table `table` (`figure_1.open_tables`).
        quantity: the column, a measure of the joint total variation.
        what: the quantity in words.
    """
    rows = table[(table.clip_epsilon == 0.1) & (table.epoch == 99)]
    return _linear(lambda: rows.set_index(["num_agents", "map", "seed"])[quantity], what, rows)


def joint_tv_grows_linearly_in_training(curves: pd.DataFrame, quantity: str, what: str) -> Verdict:
    """Judges whether the joint total variation of updates during training grows linearly in N (figure 2).

    Args:
        curves: rows of one algorithm from the table `curves` (`sweep.open_tables`).
        quantity: the metric, a measure of the joint total variation.
        what: the quantity in words.
    """
    rows = curves[curves.rule == "0.1"]
    return _linear(lambda: _run_means(rows, quantity), what, rows)


def epochs_matter_less_than_agents(table: pd.DataFrame) -> Verdict:
    """Judges whether the joint total variation grows less with epochs than with N (figures 1c and 1d).

    Args:
        table: figure 1's table `table` (`figure_1.open_tables`).
    """
    rows = table[(table.clip_epsilon == 0.1) & table.epoch.isin([10, 20, 50, 99])]

    def difference() -> Measure:
        last = rows[rows.epoch == 99].set_index(["num_agents", "map", "seed"]).joint_tv_sum_max
        exponent, groups = _exponent(last)
        tv = rows.set_index(["num_agents", "map", "seed", "epoch"]).joint_tv_sum_max.unstack("epoch").dropna()
        by_epoch = np.polyfit(np.log(tv.columns.to_numpy(float)), np.log(tv.to_numpy()).T, 1)[0]
        of_epochs = _groups(pd.Series(by_epoch, tv.index), ["num_agents", "map"])
        count = len(groups)
        return Measure(lambda *both: exponent(*both[:count]) - statistics.mean(*both[count:]), groups + of_epochs)

    claim = "Epochs matter less to the joint total variation than the number of agents"
    effect = "exponent of the sum in N less its exponent in epochs: above 0"
    return _judge(claim, effect, difference, (0, INF), rows)


def tv_spreads_without_clipping(percentiles: pd.DataFrame) -> Verdict:
    """Judges whether an agent's total variation spreads over [0, 0.8] without clipping (figure 1b).

    Args:
        percentiles: figure 1's table `percentiles` (`figure_1.open_tables`).
    """
    rows = percentiles[(percentiles.clip_epsilon == NO_CLIPPING) & (percentiles.quantity == "agent_tv")]
    rows = rows[rows.epoch == 99]

    def spread() -> Measure:
        span = (np.minimum(rows.p99, 0.8) - rows.p5) / 0.8
        span = span.set_axis(pd.MultiIndex.from_frame(rows[["map", "seed"]]))
        return Measure(statistics.mean, _groups(span, ["map"]))

    claim = "Without clipping, an agent's total variation spreads over [0, 0.8]"
    effect = "share of [0, 0.8] between the 5th and the 99th percentile, after 99 epochs: above 0.8"
    return _judge(claim, effect, spread, (0.8, INF), rows)


def small_clips_improve_monotonically(curves: pd.DataFrame) -> Verdict:
    """Judges whether the return falls less during training with small clip ranges than with large ones (figure 2).

    Args:
        curves: rows of one algorithm from the table `curves` (`sweep.open_tables`).
    """

    def difference() -> Measure:
        falls = _over_training(curves).groupby([*SETTING, "seed"])[RETURN].agg(_largest_fall)
        return _small_against_large(falls)

    claim = "Small clip ranges improve monotonically"
    effect = f"largest fall of the return below its best, clips {_or(LARGE)} less {_or(SMALL)}: above 0"
    return _judge(claim, effect, difference, (0, INF), curves)


def small_clips_win(curves: pd.DataFrame) -> Verdict:
    """Judges whether small clip ranges end with a larger return than large ones (figures 2 and 4).

    Args:
        curves: rows of one algorithm from the table `curves` (`sweep.open_tables`).
    """
    claim = "Small clip ranges beat large ones"
    effect = f"lead in final return of clips {_or(SMALL)} over {_or(LARGE)}, mean over maps: above 0"
    return _judge(claim, effect, lambda: _lead(_last_returns(curves), SMALL, LARGE), (0, INF), curves)


def small_clips_win_with_more_agents(curves: pd.DataFrame) -> Verdict:
    """Judges whether the lead of small clip ranges over large ones grows with N (figures 2 and 4).

    Args:
        curves: rows of one algorithm from the table `curves` (`sweep.open_tables`).
    """

    def slope() -> Measure:
        last = _last_returns(curves)
        sizes, small, large = [], [], []
        for (num_agents, _), runs in last.groupby(["num_agents", "map"]):
            rules = runs.index.get_level_values("rule")
            if rules.isin(SMALL).any() and rules.isin(LARGE).any():
                sizes.append(num_agents)
                small.append(runs[rules.isin(SMALL)].to_numpy())
                large.append(runs[rules.isin(LARGE)].to_numpy())
        if len(set(sizes)) < 2:
            raise _TooFew("small and large clip ranges on maps of two sizes")
        count = len(sizes)

        def statistic(*groups: np.ndarray) -> float:
            lead = [a.mean() - b.mean() for a, b in zip(groups[:count], groups[count:], strict=True)]
            return float(np.polyfit(np.log2(sizes), lead, 1)[0])

        return Measure(statistic, small + large)

    claim = "They do so the more, the more agents there are"
    effect = f"lead in final return of clips {_or(SMALL)} over {_or(LARGE)}, per doubling of N: above 0"
    return _judge(claim, effect, slope, (0, INF), curves)


def too_small_clips_learn_slowly(curves: pd.DataFrame) -> Verdict:
    """Judges whether clip ranges of 0.01 and 0.03 learn more slowly than 0.1 (figure 6).

    Args:
        curves: rows of one algorithm from the table `curves` (`sweep.open_tables`).
    """

    def difference() -> Measure:
        areas = _over_training(curves).groupby([*SETTING, "seed"])[RETURN].mean()
        return _lead(areas, ("0.1",), TOO_SMALL)

    claim = "Clip ranges that are too small learn slowly"
    effect = f"return over all of training with clip 0.1 less that with {_or(TOO_SMALL)}: above 0"
    return _judge(claim, effect, difference, (0, INF), curves)


def ippo_and_mappo_are_equivalent(curves: pd.DataFrame) -> Verdict:
    """Judges whether IPPO and MAPPO end with nearly equal returns (figure 3).

    Args:
        curves: rows of both algorithms from the table `curves` (`sweep.open_tables`).
    """
    rows = curves[curves.algorithm.map(_last_part).isin(["ippo", "mappo"])]

    def difference() -> Measure:
        last = _last_returns(rows)
        algorithm = last.index.get_level_values("algorithm").map(_last_part)
        return _paired(last[algorithm == "ippo"], last[algorithm == "mappo"], ["map", "num_agents", "rule"])

    claim = "IPPO and MAPPO are equivalent"
    effect = (
        f"IPPO's final return less MAPPO's, on equal maps with equal clips: within {EQUIVALENT:g} of {MAX_RETURN:g}"
    )
    return _judge(claim, effect, difference, (-EQUIVALENT, EQUIVALENT), rows)


def joint_clipping_is_less_sensitive(curves: pd.DataFrame) -> Verdict:
    """Judges whether the joint total variation grows less with N if the joint ratio is clipped (figures 7 and 8).

    Args:
        curves: rows of JR-PPO, and of MAPPO for comparison, from the table `curves` (`sweep.open_tables`).
    """

    def difference() -> Measure:
        algorithm = curves.algorithm.map(_last_part)
        exponents = []
        for name in ("mappo", "jr_ppo"):
            rows = curves[(algorithm == name) & (curves.rule == "0.1")]
            exponents.append(_exponent(_run_means(rows, _SUM)))
        (independent, first), (joint, second) = exponents
        count = len(first)
        return Measure(lambda *both: independent(*both[:count]) - joint(*both[count:]), first + second)

    claim = "Clipping the joint ratio is less sensitive to N than clipping each agent's"
    effect = "exponent in N of the sum, independent clipping less joint clipping, at 0.1: above 0"
    return _judge(claim, effect, difference, (0, INF), curves)


def rule_keeps_joint_tv_flat(curves: pd.DataFrame, rule: str) -> Verdict:
    """Judges whether a rule for the clip range keeps the joint total variation the same for all N (our claim).

    Args:
        curves: rows of one algorithm from the table `curves` (`sweep.open_tables`).
        rule: the rule, as figure alpha's sweep names it.
    """
    rows = curves[curves.rule == rule]
    claim = f"A clip range of {rule} keeps the joint total variation flat in N"
    return _judge(
        claim,
        "exponent in N of the joint TV itself: within 0.25 of 0",
        lambda: _exponent(_run_means(rows, _JOINT)),
        (-0.25, 0.25),
        rows,
    )


def table(found: Iterable[Verdict]) -> pd.DataFrame:
    """Returns verdicts as a table with a row for each claim."""
    return pd.DataFrame(
        {"claim": v.claim, "effect": v.effect} | v.estimate._asdict() | {"verdict": v.verdict, "data": v.data}
        for v in found
    )


def _judge(
    claim: str,
    effect: str,
    measure: Callable[[], Measure],
    where: tuple[float, float],
    rows: pd.DataFrame,
) -> Verdict:
    """Judges the claim that a statistic, which `measure` returns, lies in the open interval `where`.

    `rows` is the data that the verdict rests on. `measure` raises `_TooFew` if they do not suffice.
    """
    maps = f"{rows['map'].nunique()} maps, {rows.seed.nunique()} seeds" if len(rows) else "no runs"
    try:
        found = statistics.estimate(*measure())
    except _TooFew as lack:
        return Verdict(claim, effect, Estimate(np.nan, np.nan, np.nan), "undecided", f"{maps}; wants {lack}")
    if where[0] < found.low and found.high < where[1]:
        verdict = "supported"
    elif found.high <= where[0] or found.low >= where[1]:
        verdict = "not supported"
    else:
        verdict = "undecided"
    return Verdict(claim, effect, found, verdict, maps)


def _linear(tv: Callable[[], pd.Series], what: str, rows: pd.DataFrame) -> Verdict:
    claim = f"At a fixed clip range the joint total variation grows about linearly in N ({what})"
    effect = "exponent of its largest over states in N, clip 0.1: within 0.25 of 1"
    return _judge(claim, effect, lambda: _exponent(tv()), (0.75, 1.25), rows)


def _exponent(tv: pd.Series) -> Measure:
    """Returns the exponent b of tv ~ N^b, by least squares on the means of maps; tv has a value for each run."""
    groups = {key: runs.to_numpy() for key, runs in tv.groupby(level=["num_agents", "map"])}
    sizes = np.log([num_agents for num_agents, _ in groups])
    if len(set(sizes)) < 2:
        raise _TooFew("maps of two sizes")

    def statistic(*runs: np.ndarray) -> float:
        return float(np.polyfit(sizes, np.log([values.mean() for values in runs]), 1)[0])

    return Measure(statistic, list(groups.values()))


def _ratio_ranges(table: pd.DataFrame, epoch: int) -> pd.Series:
    rows = table[table.epoch == epoch].set_index(["map", "clip_epsilon", "seed"])
    if rows.empty:
        raise _TooFew(f"epoch {epoch}")
    return rows.ratio_max - rows.ratio_min


def _evaluations(curves: pd.DataFrame) -> pd.DataFrame:
    rows = curves.dropna(subset=[RETURN]) if RETURN in curves else curves[:0]
    if rows.empty:
        raise _TooFew("evaluated runs")
    return rows.sort_values("env_steps")


def _over_training(curves: pd.DataFrame) -> pd.DataFrame:
    """Returns the evaluations of those runs that were evaluated during training, not only at the end."""
    rows = _evaluations(curves)
    rows = rows[rows.groupby([*SETTING, "seed"])[RETURN].transform("size") > 1]
    if rows.empty:
        raise _TooFew("runs evaluated on the way")
    return rows


def _last_returns(curves: pd.DataFrame) -> pd.Series:
    return _evaluations(curves).groupby([*SETTING, "seed"])[RETURN].last()


def _run_means(curves: pd.DataFrame, quantity: str) -> pd.Series:
    """Returns a quantity's mean over the updates of each run."""
    if curves.empty:
        raise _TooFew("such runs")
    return curves.groupby([*SETTING, "seed"])[quantity].mean()


def _largest_fall(returns: pd.Series) -> float:
    return float((returns.cummax() - returns).max())


def _small_against_large(quantity: pd.Series) -> Measure:
    """Returns how far runs with large clip ranges are above those with small ones, as a mean over maps."""
    statistic, groups = _lead(quantity, SMALL, LARGE)
    return Measure(lambda *runs: -statistic(*runs), groups)


def _lead(quantity: pd.Series, rules: Sequence[str], others: Sequence[str]) -> Measure:
    """Returns how far runs by some rules are above those by others, as a mean over the maps that have both."""
    rule = quantity.index.get_level_values("rule")
    return _paired(quantity[rule.isin(rules)], quantity[rule.isin(others)], ["map", "num_agents"])


def _paired(ours: pd.Series, theirs: pd.Series, keys: list[str]) -> Measure:
    """Returns the difference of two groups' means in each setting that both have, as a mean over these settings."""
    first, second = (dict(list(runs.groupby(level=keys))) if len(runs) else {} for runs in (ours, theirs))
    both = [key for key in first if key in second]
    if not both:
        raise _TooFew("runs to compare on one map")
    # A setting with one run has no spread to resample, so it is left out if other settings have several runs.
    both = [key for key in both if min(len(first[key]), len(second[key])) > 1] or both
    groups = [side[key].to_numpy() for side in (first, second) for key in both]
    count = len(both)

    def difference(*runs: np.ndarray) -> float:
        return float(np.mean([a.mean() - b.mean() for a, b in zip(runs[:count], runs[count:], strict=True)]))

    return Measure(difference, groups)


def _groups(values: pd.Series, keys: list[str]) -> list[np.ndarray]:
    """Returns the values of each setting's runs."""
    groups = [runs.to_numpy() for _, runs in values.groupby(level=keys)]
    if not groups:
        raise _TooFew("such runs")
    return groups


def _last_part(algorithm: str) -> str:
    return algorithm.rsplit("/", 1)[-1]


def _or(rules: Sequence[str]) -> str:
    return f"{', '.join(rules[:-1])} or {rules[-1]}"
