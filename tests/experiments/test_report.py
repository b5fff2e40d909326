"""Reports on made-up runs, whose numbers can be told by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from tf_marl.experiments import report

# Win rates of each run's evaluations, at 100, 200 and 300 env steps, for three seeds.
EVALUATIONS = {
    ("ippo", "0.2", "3m"): [[0.0, 0.5, 1.0], [0.25, 1.0, 0.75], [0.0, 0.25, 0.5]],
    ("ippo", "none", "3m"): [[0.0, 0.0, 0.25], [0.0, 0.0, 0.0], [0.0, 0.5, 0.5]],
    ("paper/mappo", "0.2", "3m"): [[0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.75]],
    ("ippo", "0.2", "8m"): [[1.0, 1.0, 1.0]] * 3,
    ("ippo", "none", "8m"): [[0.0, 0.0, 0.5]] * 3,
}


def made_up(*algorithms):
    """The tables `runs` and `curves` of some (algorithm, rule), all maps."""
    runs, curves = [], []
    for (algorithm, rule, name), seeds in EVALUATIONS.items():
        for seed, won in enumerate(seeds):
            if (algorithm, rule) not in algorithms:
                continue
            key = {"algorithm": algorithm, "map": name, "rule": rule, "seed": seed}
            runs.append(
                key
                | {"env_steps": 300, "seconds": 60.0 * (seed + 1), "eval/battle_won_mean": won[-1]}
                | {
                    "eval/return_mean": 20 * won[-1],
                    "best/battle_won_mean": max(won),
                    "best/return_mean": 20 * max(won),
                }
                | {"settings": "train.num_env_steps = 300; ppo.clip_range = 0.2", "git_commit": "abc"}
            )
            for turn, share in enumerate(won):
                row = key | {"env_steps": 100 * (turn + 1), "eval/battle_won_mean": share}
                curves.append(row | {"eval/return_mean": 20 * share})
            curves.append(key | {"env_steps": 150, "eval/battle_won_mean": np.nan, "trust_region/epsilon": 0.2})
    return pd.DataFrame(runs), pd.DataFrame(curves)


ALL = ("ippo", "0.2"), ("ippo", "none"), ("paper/mappo", "0.2")


@pytest.fixture
def written(tmp_path):
    """(tables) -> the tables of the report on them, and its folder."""

    def write(runs, curves):
        paths = report.write_report(runs, curves, tmp_path)
        assert all(path.parent == tmp_path and path.stat().st_size for path in paths)
        assert sorted(paths) == sorted(tmp_path.iterdir())
        return {path.stem: pd.read_csv(path) for path in paths if path.suffix == ".csv"}, tmp_path

    return write


def test_a_map_is_told_by_its_runs(written):
    tables, folder = written(*made_up(*ALL))
    maps = tables["maps"].set_index(["map", "algorithm"])
    assert len(maps) == 5
    row = maps.loc["3m", "ippo, 0.2"]  # only an algorithm with several rules is told with its rule
    assert (row.seeds, row.env_steps, row.minutes) == (3, 300, 2)
    assert (row.won_median, row.return_median, row.best_won) == (0.75, 15.0, 1.0)
    assert row.won_iqm == pytest.approx(0.75)
    assert row.won_low <= row.won_iqm <= row.won_high
    # The first evaluations at a half and more are at 200, 200 and 300 env steps; the third run never gets to 0.8.
    assert (row["steps_to_0.5"], row["steps_to_0.8"]) == (200, 300)
    assert row.command == (
        "tf-marl train --gin_file=ippo.gin --gin_file=maps/3m.gin --seed=0"
        " '--gin_bindings=train.num_env_steps = 300' '--gin_bindings=ppo.clip_range = 0.2'"
    )
    assert np.isnan(maps.loc["3m", "ippo, none"]["steps_to_0.5"])  # one run of three gets there
    page = (folder / "report.md").read_text()
    assert "| 3m    | mappo       | 3       | 300         | 0.75  |" in page
    assert "15 runs, 4,500 env steps" in page


def test_aggregates_are_over_the_maps_that_all_have(written):
    tables, _ = written(*made_up(*ALL))
    aggregates = tables["aggregates"]
    assert (aggregates.maps == 1).all()  # mappo has no runs on 8m
    two, _ = made_up(*ALL[:2])
    found = report.over_maps(report._labelled(two)).set_index(["algorithm", "statistic"])
    assert (found.maps == 2).all()
    assert found.loc[("ippo, 0.2", "mean"), "value"] == pytest.approx((0.75 + 1.0) / 2)
    assert found.loc[("ippo, none", "median"), "value"] == pytest.approx((0.25 + 0.5) / 2)
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()


def test_each_pair_is_compared_on_the_maps_that_both_have(written):
    tables, _ = written(*made_up(*ALL))
    pairs = tables["improvement"].set_index(["first", "second"])
    assert len(pairs) == 3
    # On 3m 8 of 9 pairs are ahead and one is equal; on 8m all are ahead.
    assert pairs.loc[("ippo, 0.2", "ippo, none"), "value"] == pytest.approx((8.5 / 9 + 1.0) / 2, abs=1e-4)
    assert pairs.loc[("ippo, 0.2", "ippo, none"), "maps"] == 2
    assert pairs.loc[("ippo, none", "mappo"), "maps"] == 1


def test_marl_evals_json_has_every_evaluation(written):
    _, folder = written(*made_up(*ALL))
    tasks = json.loads((folder / "marl_eval.json").read_text())["smac"]
    assert set(tasks) == {"3m", "8m"}
    assert set(tasks["3m"]) == {"ippo 0.2", "ippo none", "mappo"}  # marl-eval refuses commas
    run = tasks["3m"]["ippo 0.2"]["seed_1"]
    assert set(run) == {"step_0", "step_1", "step_2", "absolute_metrics"}
    step = {"step_count": 200, "elapsed_time": 80.0, "battle_won": [1.0], "mean_episode_return": [20.0]}
    assert run["step_1"] == step
    assert run["absolute_metrics"] == {"battle_won": [1.0], "mean_episode_return": [20.0]}


def test_one_algorithm_with_one_run_is_reported_as_far_as_it_goes(written):
    runs, curves = made_up(("paper/mappo", "0.2"))
    runs, curves = runs[runs.seed == 0].drop(columns=["best/battle_won_mean", "best/return_mean"]), curves
    tables, folder = written(runs, curves[curves.seed == 0])
    (row,) = tables["maps"].to_dict("records")
    assert row["won_iqm"] == 0.0
    assert np.isnan([row["won_low"], row["best_won"]]).all()
    assert tables["improvement"].empty
    assert not (folder / "improvement.png").exists()


def test_no_runs_are_refused(tmp_path):
    runs, curves = made_up(*ALL)
    with pytest.raises(ValueError, match="there are no such runs"):
        report.write_report(runs[:0], curves[:0], tmp_path)


def test_win_rates_are_told_beside_published_ones_and_scripted_teams(written):
    published = report.published_win_rates()
    assert published["3m", "ippo"] == 1
    assert published["corridor", "mappo"] == 0.9906  # without recurrence; 0 with it
    assert published["MMM2", "ippo"] == 0.9414  # after 25 million env steps, 0.8125 after 10
    names = ["3m", "corridor", "MMM2", "5m_vs_6m"]
    ours = {"3m": 1.0, "corridor": 0.5, "MMM2": 0.25, "5m_vs_6m": 0.125}
    runs, curves = made_up(("ippo", "0.2"))
    runs = pd.concat([runs[runs["map"] == "3m"].assign(map=name) for name in names], ignore_index=True)
    runs["eval/battle_won_mean"] = runs["map"].map(ours)
    scripted = pd.DataFrame({"map": ["3m", "3m"], "policy": ["random", "nearest"], "battle_won_mean": [0.0, 0.5]})
    maps = report.of_maps(runs.assign(label="ippo"), curves.assign(label="ippo"), scripted).set_index("map")
    assert maps.published.to_dict() == {name: published[name, "ippo"] for name in names}
    assert maps.scripted["3m"] == 0.5
    assert np.isnan(maps.scripted["MMM2"])
    agrees = report.agreement(maps.reset_index()).iloc[0]
    assert (agrees.maps, agrees.rank_correlation) == (4, 1)  # published: 1, 0.975, 0.94 and 0.72
    assert agrees.difference == pytest.approx(np.mean([ours[name] - published[name, "ippo"] for name in names]))
