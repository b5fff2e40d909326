"""Figures 2 to 8 from small tables: what is drawn, and what the page of verdicts says."""

import pandas as pd

from tf_marl.experiments import sweep
from tf_marl.paper import figure_1, training_runs

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
