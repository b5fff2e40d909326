"""Figures 2 to 8 from small tables: what is drawn, and what the page of verdicts says."""

import pandas as pd

from tf_marl.experiments import sweep
from tf_marl.paper import by_rule, figure_1, training_runs

RUNS = [sweep.Run("paper/ippo", "3m", "0.1", seed, ()) for seed in range(2)]
NOTE = "> These runs are old."


def put(folder):
    keys = [dict(zip(("algorithm", "map", "rule", "seed"), run.key, strict=True)) for run in RUNS]
    runs = pd.DataFrame(keys).assign(num_agents=3, env_steps=2000, seconds=36, settings="", git_commit="abc")
    curves = [
        runs.assign(
            env_steps=steps, **{metric: 0.1 * (1 + runs.seed) for metric, _ in training_runs.figures.METRICS.values()}
        )
        for steps in (1000, 2000)
    ]
    runs.to_csv(folder / "runs.csv", index=False)
    pd.concat(curves).to_csv(folder / "curves.csv", index=False)
    return sweep.open_tables(folder)


def test_figures_and_verdicts_are_drawn_from_tables_alone(table, percentiles, tmp_path):
    folder, first = tmp_path / "runs", tmp_path / "first"
    folder.mkdir()
    first.mkdir()
    table.to_csv(first / "table.csv", index=False)
    percentiles.assign(p5=0.0, p99=0.9).to_csv(first / "percentiles.csv", index=False)
    (folder / "note.md").write_text(NOTE + "\n", "utf-8")
    wanted = {"2": RUNS, "3": [RUNS[0]._replace(map="8m")]}
    result, files = training_runs.draw(wanted, put(folder), "tiny", figure_1.open_tables(first))
    assert result["figures"] == {"2": 2, "3": 0}
    assert {path.name for path in files} == {"runs.csv", "curves.csv", "figure_2.png", "verdicts.csv", "verdicts.md"}
    lines = (folder / "verdicts.md").read_text("utf-8").splitlines()
    assert lines[2] == NOTE
    assert any(line.startswith("`tf-marl figure --figure=all --scale=tiny`: 2 training runs, 4,000") for line in lines)
    claims = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert set(result["verdicts"]) <= set(claims)


def test_rules_get_a_page_with_means_and_extremes():
    page = by_rule.page(by_rule.table(*two_rules()), "Rules", "make it", "abc")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    assert rows[0] == [
        "N",
        "map",
        "env steps",
        "rule",
        "epsilon",
        "joint TV",
        "step kept",
        "return",
        "won, seed by seed",
    ]
    small, kept = rows[1:]
    # Two seeds with updates of 0.1, 0.3 and 0.2, 0.4: a mean of 0.25, and the largest.
    assert small == ["3", "3m", "2,000", "0.1", "0.1", "0.250 (0.400)", "", "11.0", "0.50, 1.00"]
    assert kept[3:7] == ["backtrack", "0.3", "0.100 (0.100)", "0.75"]


def two_rules():
    clip = [("ippo", "3m", "0.1", seed, 3, 2000, 0.5 + 0.5 * seed, 10.0 + 2 * seed) for seed in range(2)]
    names = ["algorithm", "map", "rule", "seed", "num_agents", "env_steps", "eval/battle_won_mean", "eval/return_mean"]
    runs = pd.DataFrame([*clip, ("ippo", "3m", "backtrack", 0, 3, 2000, 0.0, 5.0)], columns=names)
    measured = ["rule", "seed", "trust_region/joint_tv_max", "trust_region/epsilon", "trust_region/step_share"]
    updates = [("0.1", seed, 0.1 + 0.1 * seed + 0.2 * update, 0.1, None) for seed in range(2) for update in range(2)]
    curves = pd.DataFrame([*updates, ("backtrack", 0, 0.1, 0.3, 0.75)], columns=measured)
    return runs, curves.assign(algorithm="ippo", map="3m")
