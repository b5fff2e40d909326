"""Figure 1: the first update of the actor, with several clip ranges and on several maps, measured epoch by epoch."""

import pathlib
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from launch import app

if TYPE_CHECKING:
    import pandas as pd

MAPS = ("2s_vs_1sc", "3s_vs_5z", "2s3z", "6h_vs_8z", "1c3s5z", "10m_vs_11m")  # 2, 3, 5, 6, 9 and 10 agents
CLIPS = (0.1, 0.2, 0.3, 0.4, 0.5, 10.0)  # the last is none, in practice
MAP, CLIP = "2s3z", 0.1  # where a panel shows but one
# What each panel shows: maps and clip ranges. 1 is all of it, and the maps that data was published for.
PANELS = {
    "1a": ([MAP], CLIPS),
    "1b": ([MAP], CLIPS),
    "1c": (MAPS, [CLIP]),
    "1d": ([MAP], [CLIP]),
}
PUBLISHED = (["2s_vs_1sc", "3s_vs_5z", "2s3z", "1c3s5z", "10m_vs_11m"], [0.1, 0.3, 10.0])
EPOCHS = (1, 3, 10, 20, 50, 99)  # that are measured in full
NUM_EPOCHS = 100
PERCENTILES = (*range(0, 100, 5), 99, 100)

Rows = list[dict[str, Any]]


def make(
    figure: str, seeds: int, bindings: list[str], folder: pathlib.Path
) -> tuple[dict[str, Any], list[pathlib.Path]]:
    """Runs what the tables lack, then draws from them.

    Args: figure, of `PANELS`, or 1 for all and a comparison with the paper's; seeds, runs of each setting; bindings,
        gin's, on top of paper/ippo.gin; folder, of tables and plots.
    Returns: what is to be told of it, and the files.
    """
    tables = Tables(folder)
    panels = list(PANELS) if figure == "1" else [figure]
    wanted = [PANELS[panel] for panel in panels] + [PUBLISHED] * (figure == "1")
    settings = {(name, clip) for maps, clips in wanted for name in maps for clip in clips}
    todo: dict[tuple[int, str], list[float]] = {}
    for seed in range(seeds):
        for name, clip in sorted(settings, key=lambda setting: (MAPS.index(setting[0]), setting[1])):
            if not tables.have(name, clip, seed):
                todo.setdefault((seed, name), []).append(clip)
    if todo:
        app.import_quietly()
    for i, ((seed, name), clips) in enumerate(todo.items()):
        began = time.perf_counter()
        for rows, percentiles in app.in_a_process(_run, name, clips, seed, bindings):
            tables.add(rows, percentiles)
        seconds = time.perf_counter() - began
        print(f"{i + 1} of {len(todo)}: {name}, seed {seed}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return _draw(tables, panels, figure == "1", seeds, folder)


class Tables:
    """What was measured: `table.csv`, a row per setting, seed and epoch; `percentiles.csv`, the distributions."""

    def __init__(self, folder: pathlib.Path):
        import pandas as pd

        self._paths = folder / "table.csv", folder / "percentiles.csv"
        self.table, self.percentiles = (pd.read_csv(path) if path.is_file() else pd.DataFrame() for path in self._paths)

    def have(self, map_name: str, clip: float, seed: int) -> bool:
        """Whether there is a run."""
        table = self.table
        return len(table) > 0 and bool(
            ((table["map"] == map_name) & (table.clip_epsilon == clip) & (table.seed == seed)).any()
        )

    def add(self, rows: Rows, percentiles: Rows) -> None:
        """Of one run; saved at once, the table last, which tells what there is."""
        import pandas as pd

        self.table = pd.concat([self.table, pd.DataFrame(rows)], ignore_index=True)
        self.percentiles = pd.concat([self.percentiles, pd.DataFrame(percentiles)], ignore_index=True)
        for path, table in ((self._paths[1], self.percentiles), (self._paths[0], self.table)):
            unfinished = path.with_suffix(".part")
            table.to_csv(unfinished, index=False, float_format="%.4g")
            unfinished.replace(path)


def _run(map_name: str, clips: list[float], seed: int, bindings: list[str]) -> list[tuple[Rows, Rows]]:
    """The first update on a map, with each clip range: rows of the table and of the percentiles."""
    from tf_marl import diagnostics, environments
    from tf_marl.paper.first_update import DISTRIBUTIONS, FirstUpdate
    from tf_marl.training.train import Trainer

    paths = app.gin_paths([f"maps/{map_name}.gin", "paper/ippo.gin"])  # the paper's settings last: on every map
    app.parse_gin(paths, [f"ippo.num_epochs = {NUM_EPOCHS}", *bindings])
    with tempfile.TemporaryDirectory() as root_dir:
        with app.bad_input():
            trainer = Trainer(environment=environments.load(seed=seed), root_dir=root_dir, seed=seed)
        first_update = FirstUpdate(trainer, diagnostics.Full(max_joint_actions=2**32), EPOCHS, seed)
    num_agents = trainer.agent.action_spec.shape[0]
    runs = []
    for clip in clips:
        history = first_update(clip)
        setting = {"map": map_name, "num_agents": num_agents, "clip_epsilon": clip, "seed": seed}
        rows: Rows = []
        percentiles: Rows = []
        for epoch in range(NUM_EPOCHS) if map_name == MAP else EPOCHS:
            row = setting | {"epoch": epoch}
            row |= {name: history[name][epoch] for name in ("ratio_min", "ratio_max", "ratio_mean", "clip_fraction")}
            row |= {"exact": history["exact"][epoch]}
            rows.append(row | {f"{name}_max": history[name][epoch][-1] for name in DISTRIBUTIONS})
        for epoch in EPOCHS:
            for name in DISTRIBUTIONS:
                values = {f"p{p}": history[name][epoch][p] for p in PERCENTILES}
                percentiles.append(setting | {"epoch": epoch, "quantity": name} | values)
        runs.append((rows, percentiles))
    return runs


def _draw(
    tables: Tables, panels: list[str], compares: bool, seeds: int, folder: pathlib.Path
) -> tuple[dict[str, Any], list[pathlib.Path]]:
    """Plots and the comparison, from the tables alone."""
    from tf_marl.paper import figures

    def select(rows: "pd.DataFrame", panel: str) -> "pd.DataFrame":
        maps, clips = PANELS[panel]
        return rows[rows["map"].isin(maps) & rows.clip_epsilon.isin(clips) & (rows.seed < seeds)]

    files = [path for path in (folder / "table.csv", folder / "percentiles.csv")]
    draw = {
        "1a": lambda: figures.figure_1a(select(tables.table, "1a")),
        "1b": lambda: figures.figure_1b(select(tables.percentiles, "1b")),
        "1c": lambda: figures.figure_1c(select(tables.percentiles, "1c"), select(tables.table, "1c")),
        "1d": lambda: figures.figure_1d(select(tables.percentiles, "1d")),
    }
    for panel in panels:
        files += figures.write(draw[panel](), folder, f"figure_{panel}")
    result: dict[str, Any] = {"panels": panels}
    if compares:
        compared = figures.compare(tables.table[tables.table.seed < seeds])
        ratios = compared[["agent_tv_ratio", "joint_tv_sum_ratio"]]
        fits = {name: figures.linear_fit(select(tables.table, "1c"), name, EPOCHS[-1]) for name in figures.QUANTITIES}
        result |= {
            "ratios_within_0.6_to_1.7": float(ratios.map(lambda ratio: 0.6 <= ratio <= 1.7).to_numpy().mean()),
            "fits": {name: {"slope": fit.slope, "r_squared": fit.r_squared} for name, fit in fits.items()},
        }
        page = folder / "figure_1.md"
        page.write_text(_page(compared, result, seeds, {name: fit.text for name, fit in fits.items()}), "utf-8")
        files.append(page)
    return result, files


def _page(compared: "pd.DataFrame", result: dict[str, Any], seeds: int, fits: dict[str, str]) -> str:
    from tf_marl import tracking
    from tf_marl.paper import figures

    lines = [
        "# Figure 1: the first update of the actor, beside the paper's published numbers",
        "",
        f"`python -m launch.figure --figure=1 --seeds={seeds}`: IPPO as in `gin/paper/ippo.gin`, {NUM_EPOCHS}",
        "epochs on one rollout of 64 episodes, measured before each gradient step. The numbers are in `table.csv` and",
        "`percentiles.csv`, the published ones in `tf_marl/data/figure_1_published.csv`. Their battles are StarCraft",
        f"II's, ours are not. Drawn by the code of commit {tracking.git_commit()}.",
        "",
        f"Largest joint total variation over states against the number of agents N, clip {CLIP:g}, epoch {EPOCHS[-1]},",
        "a straight line through the maps' means:",
        "",
        *(f"- {label}: {fits[name]}" for name, label in figures.QUANTITIES.items()),
        "",
        "Ours over published, largest total variation over states, means over seeds;",
        f"{result['ratios_within_0.6_to_1.7']:.0%} are within 0.6 to 1.7:",
        "",
        "| map | N | clip | epoch | one agent: ours | published | ratio | sum bound: ours | published | ratio |",
        "|" + "---|" * 10,
    ]
    for row in compared.itertuples():
        clip = "none" if row.clip_epsilon >= figures.NO_CLIPPING else f"{row.clip_epsilon:g}"
        agent = f"{row.agent_tv_max:.3f} | {row.max_agent_tv_mean:.3f} | {row.agent_tv_ratio:.2f}"
        team = f"{row.joint_tv_sum_max:.3f} | {row.max_joint_tv_sum_mean:.3f} | {row.joint_tv_sum_ratio:.2f}"
        lines.append(f"| {row.map} | {row.num_agents} | {clip} | {row.epoch} | {agent} | {team} |")
    return "\n".join(lines) + "\n"
