"""The numbers behind figures alpha and rules: how far updates go by rule for the trust region, and what comes of it."""

import pandas as pd

from tf_marl.experiments.sweep import clip_range
from tf_marl.experiments.tables import markdown

# How far an update moved the joint policy: the metrics, each the largest over a rollout's states, and their titles.
_MEASURES = {
    "trust_region/joint_tv_max": "joint TV",
    "trust_region/joint_tv_upper_max": "upper bound",
    "trust_region/joint_tv_hellinger_max": "Hellinger bound",
    "trust_region/joint_tv_product_max": "product bound",
    "trust_region/joint_tv_sum_max": "sum bound",
}
_RUN = ["algorithm", "map", "rule", "seed"]


def table(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each map and rule, small teams first.

    Measures of the trust region are means over updates and seeds; those with `_largest` are of all updates. Win rates
    and returns are means over seeds of the greedy episodes at the end. `step_share` is what backtracking kept of an
    update. What no run has recorded is left out.

    Args:
        runs: rows of the table `runs` (`sweep.open_tables`).
        curves: rows of the table `curves` of the same runs.
    """
    rows = []
    for (size, map_name, rule), those in runs.groupby(["num_agents", "map", "rule"]):
        updates = curves.merge(those[_RUN], on=_RUN)
        row = {"num_agents": size, "map": map_name, "env_steps": those.env_steps.max(), "seeds": len(those)}
        row |= {"rule": rule, "epsilon": updates["trust_region/epsilon"].mean()}
        for name in _MEASURES:
            if name in updates:
                row |= {name: updates[name].mean(), f"{name}_largest": updates[name].max()}
        if "trust_region/step_share" in updates:
            row["trust_region/step_share"] = updates["trust_region/step_share"].mean()
        row |= {name: those[name].mean() for name in ("eval/battle_won_mean", "eval/return_mean")}
        row["wins"] = ", ".join(f"{won:.2f}" for won in those.sort_values("seed")["eval/battle_won_mean"])
        rows.append(row)
    rows.sort(key=lambda row: (row["num_agents"], row["map"], clip_range(row["rule"]) is None, row["rule"]))
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def page(rows: pd.DataFrame, title: str, command: str, commits: str) -> str:
    """Returns the table as a page in Markdown.

    Args:
        rows: as `table` returns them.
        title: of the page.
        command: that makes the page.
        commits: of the code of the runs.
    """
    measures = {name: label for name, label in _MEASURES.items() if name in rows}
    keeps = "trust_region/step_share" in rows
    columns = ["N", "map", "env steps", "rule", "epsilon", *measures.values(), *(["step kept"] if keeps else [])]
    columns += ["return", "won, seed by seed"]
    cells = []
    for row in rows.to_dict("records"):
        line = [row["num_agents"], row["map"], f"{row['env_steps']:,}", row["rule"], f"{row['epsilon']:.3g}"]
        line += [f"{row[name]:.3f} ({row[f'{name}_largest']:.3f})" for name in measures]
        if keeps:
            share = row["trust_region/step_share"]
            line.append("" if pd.isna(share) else f"{share:.2f}")
        cells.append([*line, f"{row['eval/return_mean']:.1f}", row["wins"]])
    opening = f"""# {title}

`{command}`; code of the runs: {commits}.
Each measure is the largest over the states of a rollout, from the policy that collected it to the one after the
update: the mean over updates and seeds, in brackets the largest of all. The joint TV is sampled at 32 states.
Step kept: the share of an update that backtracking kept. Returns and wins are of greedy battles at the end.

"""
    return opening + markdown(columns, cells) + "\n"
