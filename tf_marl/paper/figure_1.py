"""Figure 1 of the paper: the first update of the actor, measured epoch by epoch for several clip ranges and maps."""

import multiprocessing
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import matplotlib.figure
import pandas as pd

from tf_marl import tracking
from tf_marl.experiments.progress import tell
from tf_marl.experiments.tables import Tables, markdown
from tf_marl.paper import figures, published
from tf_marl.plots import write

MAPS = ("2s_vs_1sc", "3s_vs_5z", "2s3z", "6h_vs_8z", "1c3s5z", "10m_vs_11m")  # 2, 3, 5, 6, 9 and 10 agents
CLIPS = (0.1, 0.2, 0.3, 0.4, 0.5, published.NO_CLIPPING)
MAP, CLIP = "2s3z", 0.1  # of panels that show one map or one clip range
# The maps and clip ranges of each panel.
PANELS = {
    "1a": ([MAP], CLIPS),
    "1b": ([MAP], CLIPS),
    "1c": (MAPS, [CLIP]),
    "1d": ([MAP], [CLIP]),
}
WHOLE = "1"  # all panels, and the comparison with the published data, which has these maps and clip ranges:
PUBLISHED = (["2s_vs_1sc", "3s_vs_5z", "2s3z", "1c3s5z", "10m_vs_11m"], [0.1, 0.3, published.NO_CLIPPING])
EPOCHS = (1, 3, 10, 20, 50, 99)  # at which distributions are measured
NUM_EPOCHS = 100
PERCENTILES = (*range(0, 100, 5), 99, 100)

Rows = list[dict[str, Any]]


class FirstUpdates(NamedTuple):
    """Describes first updates that start from the same weights and rollout, with several clip ranges."""

    map: str
    seed: int
    clips: tuple[float, ...]


def open_tables(folder: pathlib.Path) -> Tables:
    """Reads the tables of a folder: `table`, a row for each setting, seed and epoch, and `percentiles`.

    `percentiles` has a row for each setting, seed, epoch and quantity, with the quantity's percentiles.
    """
    return Tables(folder, ("table", "percentiles"), {"map": str, "clip_epsilon": float, "seed": int})


def missing(figure: str, seeds: int, tables: Tables) -> list[FirstUpdates]:
    """Returns the first updates that a figure needs and the tables lack.

    Args:
        figure: a panel of `PANELS`, or `WHOLE`.
        seeds: number of seeds of each setting.
        tables: the tables, as `open_tables` reads them.
    """
    wanted = [*PANELS.values(), PUBLISHED] if figure == WHOLE else [PANELS[figure]]
    settings = {(name, clip) for maps, clips in wanted for name in maps for clip in clips}
    lacking = []
    for seed in range(seeds):
        for name in MAPS:
            clips = (clip for clip in CLIPS if (name, clip) in settings and not tables.have((name, clip, seed)))
            if several := tuple(clips):
                lacking.append(FirstUpdates(name, seed, several))
    return lacking


def measure(lacking: Sequence[FirstUpdates], tables: Tables, configure: Callable[[str], None]) -> None:
    """Makes first updates and adds them to the tables. Progress goes to stderr.

    Args:
        lacking: the first updates to make, those of each start in a process of its own.
        tables: the tables to add to.
        configure: a function that lets gin read the settings for a map, given the map's name. It must be one that
            pickle can send to another process.

    Raises:
        ValueError: a setting cannot be used; the message names it.
        BrokenProcessPool: the process was killed, as one that takes too much memory is.
    """
    for i, updates in enumerate(lacking):
        began = time.perf_counter()
        # TensorFlow and XLA never give back some of their memory; the end of a process does.
        with futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
            for rows in pool.submit(_first_updates, updates, configure).result():
                tables.add(rows)
        seconds = time.perf_counter() - began
        tell(f"{i + 1} of {len(lacking)}: {updates.map}, seed {updates.seed}: {seconds:.0f} s")


def _first_updates(updates: FirstUpdates, configure: Callable[[str], None]) -> list[dict[str, Rows]]:
    """Makes first updates from one start and returns the rows of both tables for each clip range."""
    from tf_marl import diagnostics, environments  # imports TensorFlow, which drawing does not need
    from tf_marl.paper.first_update import DISTRIBUTIONS, FirstUpdate
    from tf_marl.training import Trainer

    configure(updates.map)
    with tempfile.TemporaryDirectory() as root_dir:
        trainer = Trainer(world=environments.make(seed=updates.seed), root_dir=root_dir, seed=updates.seed)
        first_update = FirstUpdate(trainer, diagnostics.Full(max_joint_actions=2**32), EPOCHS, updates.seed)
    num_agents = trainer.agent.action_spec.shape[0]
    runs = []
    for clip in updates.clips:
        history = first_update(clip)
        setting = {"map": updates.map, "num_agents": num_agents, "clip_epsilon": clip, "seed": updates.seed}
        rows: Rows = []
        percentiles: Rows = []
        for epoch in range(NUM_EPOCHS) if updates.map == MAP else EPOCHS:
            row = setting | {"epoch": epoch}
            row |= {name: history[name][epoch] for name in ("ratio_min", "ratio_max", "ratio_mean", "clip_fraction")}
            row |= {"exact": history["exact"][epoch]}
            rows.append(row | {f"{name}_max": history[name][epoch][-1] for name in DISTRIBUTIONS})
        for epoch in EPOCHS:
            for name in DISTRIBUTIONS:
                values = {f"p{p}": history[name][epoch][p] for p in PERCENTILES}
                percentiles.append(setting | {"epoch": epoch, "quantity": name} | values)
        runs.append({"table": rows, "percentiles": percentiles})
    return runs


def draw(figure: str, seeds: int, tables: Tables) -> tuple[dict[str, Any], list[pathlib.Path]]:
    """Draws a figure from the tables alone, into their folder.

    Args:
        figure: a panel of `PANELS`, or `WHOLE`, which also writes the page `figure_1.md`.
        seeds: number of seeds of each setting, at most; the tables may have fewer.
        tables: the tables, as `open_tables` reads them.

    Returns:
        A summary that can be written as JSON, and the paths of all files, those of the tables included.

    Raises:
        ValueError: the tables have no row of a panel.
    """
    panels = list(PANELS) if figure == WHOLE else [figure]
    files = list(tables.paths)
    for panel in panels:
        rows = [_of_panel(panel, tables[name], seeds) for name in ("table", "percentiles")]
        if any(of_panel.empty for of_panel in rows):
            raise ValueError(f"{tables.folder}: the tables have nothing that figure {panel} shows")
        files.append(write(_panel(panel, *rows), tables.folder, f"figure_{panel}"))
    result: dict[str, Any] = {"panels": panels}
    if figure == WHOLE:
        compared = published.compare(tables["table"][tables["table"].seed < seeds])
        ratios = compared[["agent_tv_ratio", "joint_tv_sum_ratio"]]
        against_n = _of_panel("1c", tables["table"], seeds)
        shown = figures.measured(_of_panel("1c", tables["percentiles"], seeds))
        fits = {name: figures.linear_fit(against_n, name, EPOCHS[-1]) for name in shown}
        result |= {
            "ratios_within_0.6_to_1.7": float(ratios.map(lambda ratio: 0.6 <= ratio <= 1.7).to_numpy().mean()),
            "fits": {name: {"slope": fit.slope, "r_squared": fit.r_squared} for name, fit in fits.items()},
        }
        page = tables.folder / "figure_1.md"
        there = min(seeds, tables["table"].seed.nunique())
        page.write_text(_page(compared, result, there, {shown[name]: fit.text for name, fit in fits.items()}), "utf-8")
        files.append(page)
    return result, files


def _panel(panel: str, table: pd.DataFrame, percentiles: pd.DataFrame) -> matplotlib.figure.Figure:
    match panel:
        case "1a":
            return figures.figure_1a(table)
        case "1b":
            return figures.figure_1b(percentiles)
        case "1c":
            return figures.figure_1c(percentiles, table)
        case _:
            return figures.figure_1d(percentiles)


def _of_panel(panel: str, rows: pd.DataFrame, seeds: int) -> pd.DataFrame:
    """Returns the rows of a table that a panel shows."""
    maps, clips = PANELS[panel]
    return rows[rows["map"].isin(maps) & rows.clip_epsilon.isin(clips) & (rows.seed < seeds)]


def _page(compared: pd.DataFrame, result: dict[str, Any], seeds: int, fits: dict[str, str]) -> str:
    lines = [
        "# Figure 1: the first update of the actor, beside the paper's published numbers",
        "",
        f"`tf-marl figure --figure=1 --seeds={seeds}`: IPPO as in `gin/paper/ippo.gin`, {NUM_EPOCHS}",
        "epochs on one rollout of 64 episodes, measured before each gradient step. The numbers are in `table.csv` and",
        "`percentiles.csv`, the published ones in `tf_marl/data/figure_1_published.csv`. Their battles are StarCraft",
        f"II's, ours are not. Drawn by the code of commit {tracking.git_commit()}.",
        "",
        f"Largest joint total variation over states against the number of agents N, clip {CLIP:g}, epoch {EPOCHS[-1]},",
        "a straight line through the maps' means:",
        "",
        *(f"- {label}: {text}" for label, text in fits.items()),
        "",
        "Ours over published, largest total variation over states, means over seeds;",
        f"{result['ratios_within_0.6_to_1.7']:.0%} are within 0.6 to 1.7:",
        "",
    ]
    columns = ["map", "N", "clip", "epoch", "one agent: ours", "published", "ratio", "sum bound: ours", "published"]
    rows = []
    for row in compared.itertuples():
        clip = "none" if row.clip_epsilon >= published.NO_CLIPPING else f"{row.clip_epsilon:g}"
        cells = [row.map, row.num_agents, clip, row.epoch]
        cells += [f"{row.agent_tv_max:.3f}", f"{row.max_agent_tv_mean:.3f}", f"{row.agent_tv_ratio:.2f}"]
        cells += [f"{row.joint_tv_sum_max:.3f}", f"{row.max_joint_tv_sum_mean:.3f}", f"{row.joint_tv_sum_ratio:.2f}"]
        rows.append(cells)
    return "\n".join([*lines, markdown([*columns, "ratio"], rows)]) + "\n"
