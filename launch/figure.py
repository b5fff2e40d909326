"""The paper's figures, beside its published numbers: python -m launch.figure --figure=2 --scale=quick

Runs what the tables lack, then draws from the tables: a stopped figure is taken up where it stopped, and one that is
complete is only drawn. Figures that show the same runs share them.
"""

import pathlib
import sys
from typing import TYPE_CHECKING, Any

from absl import flags

from launch import app, figure_1

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas as pd

FLAGS = flags.FLAGS
FIRST_UPDATE = app.STORE_FOLDER / "results" / "figure_1"
TRUST_REGION = ("sum", "product", "joint")
# What each figure of training runs shows: metrics, and the axes that its columns and its curves stand for.
CURVES = {
    "2": (("return", *TRUST_REGION), "map", "rule", "IPPO by clip range"),
    "3": (("return", "won"), "map", "algorithm", "IPPO and MAPPO"),
    "4": (("won",), "map", "rule", "IPPO by clip range"),
    "5": (("won", "return", *TRUST_REGION), "map", "rule", "MAPPO by clip range"),
    "6": (("return", "won"), "map", "rule", "IPPO with small clip ranges"),
    "7": (("return", *TRUST_REGION), "rule", "algorithm", "Clipping the joint ratio, and each agent's (MAPPO)"),
    "8": (("return", *TRUST_REGION), "rule", "algorithm", "Clipping the joint ratio, and each agent's (MAPPO)"),
}
TRAINED = (*CURVES, "alpha")

app.define_json_flag()
app.define_tracking_flags()
flags.DEFINE_enum(
    "figure", "1", [*figure_1.PANELS, "1", *TRAINED, "all"], "Which; 1 is all of 1a to 1d; all is 2 to 8 and alpha."
)
flags.DEFINE_enum("scale", "quick", ["quick", "laptop", "paper"], "Of 2 to 8 and alpha: gin/paper/SCALE.gin.")
flags.DEFINE_integer("seeds", None, "Runs of each setting; by default 5 for figure 1, else the scale's.", lower_bound=1)
flags.DEFINE_string("out", None, "Folder for tables and plots; by default in mlflow_artifacts/results/.")
flags.DEFINE_integer("processes", None, "Runs side by side, of 2 to 8 and alpha; by default one a core.", lower_bound=1)
flags.DEFINE_bool("train", True, "Run what the tables lack; else draw from what they have, of 2 to 8 and alpha.")
flags.DEFINE_multi_string(
    "gin_bindings",
    [],
    "Gin binding on top of paper/ippo.gin for figure 1, else of the sweep; give another --out with it.",
)


def main() -> int:
    from tf_marl import tracking

    trained = FLAGS.figure not in ("1", *figure_1.PANELS)
    default = app.STORE_FOLDER / "results" / "paper" / FLAGS.scale if trained else FIRST_UPDATE
    folder = app.writable_folder(FLAGS.out or default, "out")
    if FLAGS.tracking_uri:
        with app.bad_input("--tracking_uri: "):
            tracking.check_reachable(FLAGS.tracking_uri)
    if trained:
        code, result, files = _trained(folder)
    else:
        code = 0
        result, files = figure_1.make(FLAGS.figure, FLAGS.seeds or 5, FLAGS.gin_bindings, folder)
    params = {"figure": FLAGS.figure} | ({"scale": FLAGS.scale} if trained else {"seeds": str(FLAGS.seeds or 5)})
    run_id = app.log_results(f"figure_{FLAGS.figure}", params, {"figure": FLAGS.figure}, files)
    print(f"written to {folder}, logged as run {run_id} in experiment {FLAGS.experiment}")
    if FLAGS.json:
        app.print_json(result | {"out": str(folder), "run_id": run_id})
    return code


def _trained(folder: pathlib.Path) -> tuple[int, dict[str, Any], list[pathlib.Path]]:
    """Figures 2 to 8 and alpha: exit code, what is to be told, files."""
    from launch import runs
    from tf_marl.paper import figures

    names = TRAINED if FLAGS.figure == "all" else (FLAGS.figure,)
    bindings = FLAGS.gin_bindings + ([f"sweep.seeds = {FLAGS.seeds}"] if FLAGS.seeds else [])
    wanted = {
        name: runs.read_axes([f"paper/figure_{name}.gin", f"paper/{FLAGS.scale}.gin"], bindings).runs()
        for name in names
    }
    tables = runs.Tables(folder)
    code = 0
    if FLAGS.train:
        # A seed of all figures after the other; what two of them show is one run.
        every = sorted(
            dict.fromkeys(run for of_figure in wanted.values() for run in of_figure), key=lambda run: run.seed
        )
        code = runs.train_all(every, tables, f"paper_{FLAGS.scale}", FLAGS.processes or runs.cores())
    files = [path for path in tables.paths if path.is_file()]
    drawn = {}
    for name, of_figure in wanted.items():
        have = tables.select(of_figure, tables.curves)
        drawn[name] = len(tables.select(of_figure, tables.runs))
        if drawn[name]:
            note = f"{drawn[name]} of {len(of_figure)} runs" if drawn[name] < len(of_figure) else f"{drawn[name]} runs"
            files += figures.write(_draw(name, have, f"{FLAGS.scale} scale, {note}"), folder, f"figure_{name}")
        else:
            print(f"figure {name}: not one of its {len(of_figure)} runs is there, so it is not drawn", file=sys.stderr)
    found = _verdicts(tables.curves, folder) if sum(drawn.values()) else {}
    files += [folder / name for name in ("verdicts.csv", "verdicts.md") if found]
    return code, {"figures": drawn, "wanted": {name: len(some) for name, some in wanted.items()}, **found}, files


def _draw(name: str, curves: "pd.DataFrame", note: str) -> "matplotlib.figure.Figure":
    from tf_marl.paper import figures

    if name == "alpha":
        return figures.by_team_size(curves, f"Figure alpha: how far IPPO's updates go, by rule ({note})")
    rows, columns, lines, title = CURVES[name]
    return figures.learning_curves(curves, rows, columns, lines, f"Figure {name}: {title} ({note})")


def _verdicts(curves: "pd.DataFrame", folder: pathlib.Path) -> dict[str, Any]:
    """What all runs of the folder, and figure 1's, say of the paper's claims: as a table and a page."""
    import pandas as pd

    from tf_marl import tracking
    from tf_marl.paper import claims

    first_update = [pd.read_csv(FIRST_UPDATE / name) for name in ("table.csv", "percentiles.csv")]
    found = claims.table(claims.verdicts(curves, *first_update))
    found.to_csv(folder / "verdicts.csv", index=False, float_format="%.4g")
    runs = pd.read_csv(folder / "runs.csv")
    lines = [
        "# The paper's claims, and what the runs say",
        "",
        f"`python -m launch.figure --figure=all --scale={FLAGS.scale}`: {len(runs)} training runs,"
        f" {runs.env_steps.sum():,} env steps, {runs.seconds.sum() / 3600:.1f} hours; and figure 1's tables.",
        f"Code of the runs: {', '.join(sorted(runs.git_commit.unique()))}; of this page: {tracking.git_commit()}.",
        "Supported: all of the 95% interval (stratified bootstrap over seeds) is where the claim says; not supported:",
        "none of it; undecided: neither, or the runs to tell are not there. How each is computed: `tf_marl/claims.py`.",
        "",
        "| claim | effect | estimate | 95% interval | verdict | data |",
        "|---|---|---|---|---|---|",
    ]
    for row in found.itertuples():
        interval = "" if pd.isna(row.low) else f"{row.low:.3g} to {row.high:.3g}"
        estimate = "" if pd.isna(row.value) else f"{row.value:.3g}"
        lines.append(f"| {row.claim} | {row.effect} | {estimate} | {interval} | {row.verdict} | {row.data} |")
    (folder / "verdicts.md").write_text("\n".join(lines) + "\n", "utf-8")
    return {"verdicts": dict(zip(found.claim, found.verdict, strict=True))}


if __name__ == "__main__":
    app.run(main)
