"""The paper's figures 2 to 8 and our figure alpha, drawn from tables of training runs, and verdicts on its claims."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure
import pandas as pd

from tf_marl import tracking
from tf_marl.experiments.progress import tell
from tf_marl.experiments.sweep import Run
from tf_marl.experiments.tables import Tables, markdown
from tf_marl.paper import by_rule, claims, figures
from tf_marl.plots import write

_TRUST_REGION = ("sum", "product", "hellinger", "joint")
# What each figure shows: a row of plots for each of these metrics, a column for each value on an axis, a curve for each
# value on another axis, and a title.
CURVES = {
    "2": (("return", *_TRUST_REGION), "map", "rule", "IPPO by clip range"),
    "3": (("return", "won"), "map", "algorithm", "IPPO and MAPPO"),
    "4": (("won",), "map", "rule", "IPPO by clip range"),
    "5": (("won", "return", *_TRUST_REGION), "map", "rule", "MAPPO by clip range"),
    "6": (("return", "won"), "map", "rule", "IPPO with small clip ranges"),
    "7": (("return", *_TRUST_REGION), "rule", "algorithm", "Clipping the joint ratio, and each agent's (MAPPO)"),
    "8": (("return", *_TRUST_REGION), "rule", "algorithm", "Clipping the joint ratio, and each agent's (MAPPO)"),
    "rules": (("won", "return", "joint"), "map", "rule", "IPPO by rule for the trust region, alpha = 0.2"),
}

# Figures with a table of their numbers by rule, and the page's title.
BY_RULE = {
    "alpha": "How far IPPO's updates go by rule, alpha = 0.2",
    "rules": "Rules for the trust region at equal alpha = 0.2",
}


def draw(
    wanted: Mapping[str, Sequence[Run]], tables: Tables, scale: str, first_updates: Tables
) -> tuple[dict[str, Any], list[pathlib.Path]]:
    """Draws figures and writes the verdicts on the paper's claims, from the tables alone and into their folder.

    A figure of which the tables have no run is left out. A file `note.md` in the folder, written by hand, is put at the
    top of the page `verdicts.md`.

    Args:
        wanted: for each figure's name, the runs that it shows.
        tables: tables of training runs, as `sweep.open_tables` reads them.
        scale: name of the scale of the runs, such as `laptop`.
        first_updates: tables of figure 1, as `figure_1.open_tables` reads them; some claims are about these.

    Returns:
        A summary that can be written as JSON, and the paths of all files, those of the tables included.
    """
    files = [path for path in tables.paths if path.is_file()]
    drawn = {}
    for name, runs in wanted.items():
        keys = [run.key for run in runs]
        drawn[name] = len(tables.select("runs", keys))
        if drawn[name]:
            note = f"{drawn[name]} of {len(runs)} runs" if drawn[name] < len(runs) else f"{drawn[name]} runs"
            drawing = _figure(name, tables.select("curves", keys), f"{scale} scale, {note}")
            files.append(write(drawing, tables.folder, f"figure_{name}"))
            if name in BY_RULE:
                files += _by_rule(name, tables, keys, scale)
        else:
            tell(f"figure {name}: not one of its {len(runs)} runs is there, so it is not drawn")
    result: dict[str, Any] = {"figures": drawn, "wanted": {name: len(runs) for name, runs in wanted.items()}}
    if any(runs for name, runs in drawn.items() if name != "rules"):
        verdicts = claims.table(claims.verdicts(tables["curves"], first_updates["table"], first_updates["percentiles"]))
        table, page = (tables.folder / f"verdicts.{suffix}" for suffix in ("csv", "md"))
        verdicts.to_csv(table, index=False, float_format="%.4g")
        by_hand = tables.folder / "note.md"
        opening = by_hand.read_text("utf-8") if by_hand.is_file() else ""
        page.write_text(_page(verdicts, tables["runs"], scale, opening), "utf-8")
        files += [table, page]
        result["verdicts"] = dict(zip(verdicts.claim, verdicts.verdict, strict=True))
    return result, files


def _figure(name: str, curves: pd.DataFrame, note: str) -> matplotlib.figure.Figure:
    if name == "alpha":
        return figures.by_team_size(curves, f"Figure alpha: how far IPPO's updates go, by rule ({note})")
    rows, columns, lines, title = CURVES[name]
    return figures.learning_curves(curves, rows, columns, lines, f"Figure {name}: {title} ({note})")


def _by_rule(name: str, tables: Tables, keys: Sequence[tuple], scale: str) -> list[pathlib.Path]:
    runs = tables.select("runs", keys)
    rows = by_rule.table(runs, tables.select("curves", keys))
    numbers, page = (tables.folder / f"figure_{name}.{suffix}" for suffix in ("csv", "md"))
    rows.to_csv(numbers, index=False, float_format="%.4g")
    command = f"tf-marl figure --figure={name} --scale={scale}"
    commits = ", ".join(sorted(commit[:8] for commit in runs.git_commit.unique()))
    page.write_text(by_rule.page(rows, BY_RULE[name], command, commits), "utf-8")
    return [numbers, page]


def _page(verdicts: pd.DataFrame, runs: pd.DataFrame, scale: str, opening: str) -> str:
    lines = [
        "# The paper's claims, and what the runs say",
        "",
        *([opening] if opening else []),
        f"`tf-marl figure --figure=all --scale={scale}`: {len(runs)} training runs,"
        f" {runs.env_steps.sum():,} env steps, {runs.seconds.sum() / 3600:.1f} hours; and figure 1's tables.",
        f"Code of the runs: {', '.join(sorted(runs.git_commit.unique()))}; of this page: {tracking.git_commit()}.",
        "Supported: all of the 95% interval (stratified bootstrap over seeds) is where the claim says; not supported:",
        "none of it; undecided: neither, or the runs to tell are not there. How each is computed:",
        "`tf_marl/paper/claims.py`.",
        "",
    ]
    rows = []
    for row in verdicts.itertuples():
        interval = "" if pd.isna(row.low) else f"{row.low:.3g} to {row.high:.3g}"
        estimate = "" if pd.isna(row.value) else f"{row.value:.3g}"
        rows.append([row.claim, row.effect, estimate, interval, row.verdict, row.data])
    table = markdown(["claim", "effect", "estimate", "95% interval", "verdict", "data"], rows)
    return "\n".join([*lines, table]) + "\n"
