"""Figures 2 to 8 and ours, alpha: what training runs came to, drawn, and held against the paper's claims."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure
import pandas as pd

from tf_marl import tracking
from tf_marl.experiments.progress import tell
from tf_marl.experiments.sweep import Run
from tf_marl.experiments.tables import Tables
from tf_marl.paper import claims, figures
from tf_marl.plots import write

_TRUST_REGION = ("sum", "product", "joint")
# What each figure shows: metrics, and the axes that its columns and its curves stand for.
CURVES = {
    "2": (("return", *_TRUST_REGION), "map", "rule", "IPPO by clip range"),
    "3": (("return", "won"), "map", "algorithm", "IPPO and MAPPO"),
    "4": (("won",), "map", "rule", "IPPO by clip range"),
    "5": (("won", "return", *_TRUST_REGION), "map", "rule", "MAPPO by clip range"),
    "6": (("return", "won"), "map", "rule", "IPPO with small clip ranges"),
    "7": (("return", *_TRUST_REGION), "rule", "algorithm", "Clipping the joint ratio, and each agent's (MAPPO)"),
    "8": (("return", *_TRUST_REGION), "rule", "algorithm", "Clipping the joint ratio, and each agent's (MAPPO)"),
}


def draw(
    wanted: Mapping[str, Sequence[Run]], tables: Tables, scale: str, first_updates: Tables
) -> tuple[dict[str, Any], list[pathlib.Path]]:
    """Draws from the tables alone, as far as they go, into their folder.

    Args:
        wanted: by figure, the runs that it shows.
        tables: of runs, `sweep.open_tables`.
        scale: of the runs, in a word.
        first_updates: figure 1's, `figure_1.open_tables`: some claims are of those.
    Returns: what is to be told of it, and the files, those of the tables too.
    """
    files = [path for path in tables.paths if path.is_file()]
    drawn = {}
    for name, runs in wanted.items():
        keys = [run.key for run in runs]
        drawn[name] = len(tables.select("runs", keys))
        if drawn[name]:
            note = f"{drawn[name]} of {len(runs)} runs" if drawn[name] < len(runs) else f"{drawn[name]} runs"
            drawing = _figure(name, tables.select("curves", keys), f"{scale} scale, {note}")
            files += write(drawing, tables.folder, f"figure_{name}")
        else:
            tell(f"figure {name}: not one of its {len(runs)} runs is there, so it is not drawn")
    result: dict[str, Any] = {"figures": drawn, "wanted": {name: len(runs) for name, runs in wanted.items()}}
    if any(drawn.values()):
        verdicts = claims.table(claims.verdicts(tables["curves"], first_updates["table"], first_updates["percentiles"]))
        table, page = (tables.folder / f"verdicts.{suffix}" for suffix in ("csv", "md"))
        verdicts.to_csv(table, index=False, float_format="%.4g")
        page.write_text(_page(verdicts, tables["runs"], scale), "utf-8")
        files += [table, page]
        result["verdicts"] = dict(zip(verdicts.claim, verdicts.verdict, strict=True))
    return result, files


def _figure(name: str, curves: pd.DataFrame, note: str) -> matplotlib.figure.Figure:
    if name == "alpha":
        return figures.by_team_size(curves, f"Figure alpha: how far IPPO's updates go, by rule ({note})")
    rows, columns, lines, title = CURVES[name]
    return figures.learning_curves(curves, rows, columns, lines, f"Figure {name}: {title} ({note})")


def _page(verdicts: pd.DataFrame, runs: pd.DataFrame, scale: str) -> str:
    lines = [
        "# The paper's claims, and what the runs say",
        "",
        f"`python -m launch.figure --figure=all --scale={scale}`: {len(runs)} training runs,"
        f" {runs.env_steps.sum():,} env steps, {runs.seconds.sum() / 3600:.1f} hours; and figure 1's tables.",
        f"Code of the runs: {', '.join(sorted(runs.git_commit.unique()))}; of this page: {tracking.git_commit()}.",
        "Supported: all of the 95% interval (stratified bootstrap over seeds) is where the claim says; not supported:",
        "none of it; undecided: neither, or the runs to tell are not there. How each is computed:",
        "`tf_marl/paper/claims.py`.",
        "",
        "| claim | effect | estimate | 95% interval | verdict | data |",
        "|---|---|---|---|---|---|",
    ]
    for row in verdicts.itertuples():
        interval = "" if pd.isna(row.low) else f"{row.low:.3g} to {row.high:.3g}"
        estimate = "" if pd.isna(row.value) else f"{row.value:.3g}"
        lines.append(f"| {row.claim} | {row.effect} | {estimate} | {interval} | {row.verdict} | {row.data} |")
    return "\n".join(lines) + "\n"
