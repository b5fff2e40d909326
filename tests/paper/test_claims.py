"""Claims on synthetic tables where the truth is known: both ways, and where there is too little to tell."""

import itertools

import numpy as np
import pandas as pd
import pytest

from tf_marl.paper import claims

MAPS = {"2s3z": 5, "3s5z": 8, "10m_vs_11m": 10, "27m_vs_30m": 27}
RULES = {"0.01": 0.01, "0.05": 0.05, "0.1": 0.1, "0.3": 0.3, "none": 10.0, "alpha / N": None}
STEPS = range(1, 11)


def curves(
    final=lambda algorithm, num_agents, rule: 15.0,
    tv=lambda algorithm, num_agents, rule: 0.01 * num_agents,
    shape=lambda algorithm, rule: np.linspace(0.1, 1.0, len(STEPS)),
    noise=0.02,
):
    """A table of training curves of three seeds.

    Args: final return, total variation, and the share of the final return at each step, all but for `noise`.
    """
    rng = np.random.default_rng(0)
    rows = []
    for algorithm, name, rule, seed in itertools.product(("ippo", "mappo", "jr_ppo"), MAPS, RULES, range(3)):
        num_agents = MAPS[name]
        factor = 1 + noise * rng.normal()
        for step, share in zip(STEPS, shape(algorithm, rule), strict=True):
            rows.append(
                {
                    "algorithm": f"paper/{algorithm}",
                    "map": name,
                    "rule": rule,
                    "seed": seed,
                    "num_agents": num_agents,
                    "env_steps": 1000 * step,
                    claims.RETURN: factor * share * final(algorithm, num_agents, rule),
                    "trust_region/joint_tv_sum_max": factor * tv(algorithm, num_agents, rule),
                    "trust_region/joint_tv_max": factor * tv(algorithm, num_agents, rule),
                }
            )
    return pd.DataFrame(rows)


def ippo(**truth):
    table = curves(**truth)
    return table[table.algorithm == "paper/ippo"]


def first_updates(
    width=lambda clip, epoch: 0.05 * clip * epoch,
    tv=lambda num_agents, epoch: 0.01 * num_agents,
    spread=(0.02, 0.85),
):
    """Figure 1's tables of five seeds: of largest values, and of percentiles."""
    rng = np.random.default_rng(0)
    rows, percentiles = [], []
    for (name, num_agents), clip, seed in itertools.product(MAPS.items(), (0.1, 0.3, 10.0), range(5)):
        factor = 1 + 0.02 * rng.normal()
        key = {"map": name, "num_agents": num_agents, "clip_epsilon": clip, "seed": seed}
        for epoch in (1, 3, 10, 20, 50, 99):
            ratios = {"ratio_min": 1.0, "ratio_max": 1.0 + factor * width(clip, epoch)}
            sizes = {f"{quantity}_max": factor * tv(num_agents, epoch) for quantity in ("joint_tv_sum", "joint_tv")}
            rows.append(key | {"epoch": epoch} | ratios | sizes)
        low, high = spread
        percentiles.append(key | {"epoch": 99, "quantity": "agent_tv", "p5": low * factor, "p99": high * factor})
    return pd.DataFrame(rows), pd.DataFrame(percentiles)


def linear_in_figure_1(**truth):
    return claims.joint_tv_grows_linearly(first_updates(**truth)[0], "joint_tv_sum_max", "the sum")


def linear_in_training(**truth):
    return claims.joint_tv_grows_linearly_in_training(ippo(**truth), "trust_region/joint_tv_sum_max", "the sum")


def falls_after_half(algorithm, rule):
    """Large clip ranges lose what they learned."""
    del algorithm
    up = np.linspace(0.1, 1.0, len(STEPS))
    return np.where((np.array(STEPS) > 5) & (rule in claims.LARGE), up[4] / 2, up)


def slow_if_too_small(algorithm, rule):
    del algorithm
    return np.linspace(0.1, 1.0, len(STEPS)) ** (3 if rule in claims.TOO_SMALL else 1)


# For each claim: what makes its verdict, with a table where it is true and one where it is false.
CASES = {
    "the range of ratios grows": (
        lambda width: claims.ratio_range_grows_with_epochs(first_updates(width)[0]),
        lambda clip, epoch: clip * epoch,
        lambda clip, epoch: clip / epoch,
    ),
    "slower for smaller clips": (
        lambda width: claims.ratio_range_grows_slower_with_small_clips(first_updates(width)[0]),
        lambda clip, epoch: clip * epoch,
        lambda clip, epoch: epoch / (1 + 10 * clip),
    ),
    "linear in N, first update": (
        lambda tv: linear_in_figure_1(tv=tv),
        lambda num_agents, epoch: 0.03 * num_agents,
        lambda num_agents, epoch: 0.1 * num_agents**0.5,
    ),
    "linear in N, training": (
        lambda tv: linear_in_training(tv=tv),
        lambda algorithm, num_agents, rule: 0.03 * num_agents,
        lambda algorithm, num_agents, rule: 0.1,
    ),
    "epochs matter less than N": (
        lambda tv: claims.epochs_matter_less_than_agents(first_updates(tv=tv)[0]),
        lambda num_agents, epoch: 0.01 * num_agents * epoch**0.2,
        lambda num_agents, epoch: 0.01 * num_agents**0.5 * epoch,
    ),
    "spreads without clipping": (
        lambda spread: claims.tv_spreads_without_clipping(first_updates(spread=spread)[1]),
        (0.02, 0.9),
        (0.02, 0.3),
    ),
    "small clips improve monotonically": (
        lambda shape: claims.small_clips_improve_monotonically(ippo(shape=shape)),
        falls_after_half,
        lambda algorithm, rule: falls_after_half(algorithm, "0.3" if rule in claims.SMALL else "0.1"),
    ),
    "small clips win": (
        lambda final: claims.small_clips_win(ippo(final=final)),
        lambda algorithm, num_agents, rule: 15 if rule in claims.SMALL else 13,
        lambda algorithm, num_agents, rule: 13 if rule in claims.SMALL else 15,
    ),
    "small clips win with more agents": (
        lambda final: claims.small_clips_win_with_more_agents(ippo(final=final)),
        lambda algorithm, num_agents, rule: 15 if rule in claims.SMALL else 15 - 0.3 * num_agents,
        lambda algorithm, num_agents, rule: 15 if rule in claims.SMALL else 5 + 0.3 * num_agents,
    ),
    "too small clips learn slowly": (
        lambda shape: claims.too_small_clips_learn_slowly(ippo(shape=shape)),
        slow_if_too_small,
        lambda algorithm, rule: slow_if_too_small(algorithm, "0.01" if rule == "0.1" else "0.1"),
    ),
    "IPPO and MAPPO are equivalent": (
        lambda final: claims.ippo_and_mappo_are_equivalent(curves(final=final)),
        lambda algorithm, num_agents, rule: 15.5 if algorithm == "mappo" else 15.0,
        lambda algorithm, num_agents, rule: 15.0 if algorithm == "mappo" else 9.0,
    ),
    "joint clipping is less sensitive": (
        lambda tv: claims.joint_clipping_is_less_sensitive(curves(tv=tv)),
        lambda algorithm, num_agents, rule: 0.01 * num_agents ** (0.4 if algorithm == "jr_ppo" else 1.0),
        lambda algorithm, num_agents, rule: 0.01 * num_agents ** (1.0 if algorithm == "jr_ppo" else 0.4),
    ),
    "alpha / N keeps it flat": (
        lambda tv: claims.rule_keeps_joint_tv_flat(ippo(tv=tv), "alpha / N"),
        lambda algorithm, num_agents, rule: 0.1,
        lambda algorithm, num_agents, rule: 0.5 / num_agents,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_claim_is_supported_where_it_is_true_and_not_where_it_is_false(name):
    judge, true, false = CASES[name]
    assert judge(true).verdict == "supported"
    assert judge(false).verdict == "not supported"


def test_what_could_be_either_way_is_undecided():
    margin = claims.EQUIVALENT
    at_the_margin = curves(final=lambda algorithm, *_: 15.0 + margin * (algorithm == "mappo"), noise=0.1)
    found = claims.ippo_and_mappo_are_equivalent(at_the_margin)
    assert found.verdict == "undecided"
    assert found.estimate.low < -margin < found.estimate.high


def test_without_runs_a_claim_is_undecided_and_says_what_it_wants():
    table = curves()
    only = table[(table["map"] == "2s3z") & (table.rule == "0.1")]
    found = {verdict.claim: verdict for verdict in claims.verdicts(only, *first_updates())}
    flat = found["A clip range of alpha / N keeps the joint total variation flat in N"]
    assert flat.verdict == "undecided"
    assert "wants such runs" in flat.data
    assert all(
        verdict.verdict == "undecided" for verdict in claims.verdicts(table[:0], *(t[:0] for t in first_updates()))
    )


def test_a_setting_that_has_one_run_yet_does_not_hide_what_the_others_tell():
    table = curves(final=lambda algorithm, *_: 15.5 if algorithm == "mappo" else 15.0)
    whole = claims.ippo_and_mappo_are_equivalent(table)
    begun = claims.ippo_and_mappo_are_equivalent(table[(table["map"] != "2s3z") | (table.seed == 0)])
    assert begun.verdict == whole.verdict == "supported"


def test_one_seed_decides_nothing():
    table = curves(tv=lambda algorithm, num_agents, rule: 0.1)
    found = claims.rule_keeps_joint_tv_flat(table[(table.algorithm == "paper/ippo") & (table.seed == 0)], "alpha / N")
    assert found.verdict == "undecided"
    assert found.estimate.value == pytest.approx(0.0, abs=0.1)
