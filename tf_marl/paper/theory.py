"""A laboratory study of the paper's theorems in Dec-MDPs that are small enough to compute everything exactly.

It tries which statements hold and which have counterexamples, and lets exact learners update their policies.
"""

import multiprocessing
import pathlib
import time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import figure

from tf_marl import plots, tracking
from tf_marl.dec_mdp import falsify, learning
from tf_marl.dec_mdp.model import DecMDP
from tf_marl.dec_mdp.statements import STRATA, theorem_2
from tf_marl.experiments.progress import tell
from tf_marl.experiments.tables import markdown
from tf_marl.paper import theory_plots

EPSILONS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, float("inf"))  # the last means no clipping
ALPHAS = (0.1, 0.3, 0.5)
DRAWN = {  # the rules whose learning curves are drawn, and their labels
    ("fixed", float("inf")): "no clipping",
    ("fixed", 0.3): "clip 0.3",
    ("fixed", 0.1): "clip 0.1",
    ("per_agent", 0.3): "clip per_agent, alpha 0.3",
    ("per_sqrt_agents", 0.3): "clip per_sqrt_agents, alpha 0.3",
    ("backtrack", 0.3): "backtrack, alpha 0.3",
}
_HELD = {  # the rules that are meant to hold the joint TV at alpha: who says so, and their reading
    "per_agent": ("Theorem 3", "clip range alpha / N"),
    "per_sqrt_agents": ("Ours", "the clip range of per_sqrt_agents"),
    "backtrack": ("Ours", "backtracking"),
}
_SETTING = ["algorithm", "rule", "value", "num_agents"]


class Effort(NamedTuple):
    """Describes how much a study tries."""

    instances: int  # random instances of each statement
    steps: int  # steps of the gradient ascent from each start
    minimises: bool  # whether counterexamples are minimised before they are kept
    agents: tuple[int, ...]  # numbers of agents of the learners
    algorithms: tuple[str, ...]
    tasks: tuple[str, ...]
    learners: int  # learners of each task and rule
    updates: int  # updates of each learner
    samples: int  # rollout samples of a further run of IPPO with sampled advantages; 0 means no such run


EFFORTS = {
    "full": Effort(10_000, 50, True, (2, 3, 5), tuple(learning.ALGORITHMS), ("random", "volunteer"), 8, 12, 256),
    "quick": Effort(100, 0, False, (2, 3), ("ippo", "happo"), ("random",), 2, 5, 0),
}


class Study(NamedTuple):
    """Holds the results of a study."""

    statements: pd.DataFrame  # a row for each reading of a statement: what was tried, and the verdict
    files: list[pathlib.Path]  # tables, page, plots and witnesses


def measure(effort: str, seed: int, folder: pathlib.Path) -> None:
    """Tries the statements and lets exact learners learn, side by side in two processes. Progress goes to stderr.

    Writes the tables `statements.csv`, `learning.csv` and `curves.csv`, and the counterexamples.

    Args:
        effort: name of how much is tried, one of `EFFORTS`.
        seed: root of all randomness.
        folder: an existing folder for the tables. Counterexamples go to its folder `witnesses`, which loses those of
            an earlier study.
    """
    witnesses = folder / "witnesses"
    witnesses.mkdir(exist_ok=True)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        learners = pool.apply_async(learn, (EFFORTS[effort], seed))
        rows = pool.apply_async(try_statements, (EFFORTS[effort], seed, witnesses)).get()
        learned, curves = learners.get()
    statements = pd.DataFrame([*rows, *_clipped_updates(learned)])
    statements = statements.assign(effort=effort, seed=seed, git_commit=tracking.git_commit())
    for name, table in {"statements": statements, "learning": learned, "curves": curves}.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.4g")


def try_statements(effort: Effort, seed: int, witnesses: pathlib.Path) -> list[dict[str, Any]]:
    """Tries every reading of every statement, and keeps a counterexample of each that fails.

    Args:
        effort: how much is tried.
        seed: root of all randomness.
        witnesses: folder for the counterexamples; those that are in it are removed.

    Returns:
        A row of the table `statements.csv` for each reading.
    """
    trials = falsify.search(effort.instances, effort.steps, seed, tell)
    for stale in witnesses.glob("*.json"):
        stale.unlink()
    kept: dict[str, falsify.Witness] = {}
    return [_row(trial, witnesses, kept, effort.minimises) for trial in trials]


def _row(
    trial: falsify.Trial, folder: pathlib.Path, kept: dict[str, falsify.Witness], minimises: bool
) -> dict[str, Any]:
    """Returns the row of the table for one reading, and keeps a counterexample unless one that is kept serves it too.

    Args:
        trial: what was found.
        folder: where counterexamples are kept.
        kept: by file name; gains the new one.
        minimises: whether a counterexample is minimised before it is kept.
    """
    reading, verdict, name = trial.reading, trial.verdict, ""
    if trial.witness is not None:
        name = next((name for name, other in kept.items() if _serves(other, trial.witness)), "")
        if not name:
            tell(f"keeping a counterexample: {', '.join(reading.key)}")
            witness = falsify.minimise(trial.witness) if minimises else trial.witness
            name = falsify.save(witness, folder).name
            kept[name] = falsify.load(folder / name)
    return {
        "statement": reading.statement,
        "reading": reading.name,
        "stratum": reading.key[2],
        "instances": trial.tried,
        "on_the_way_up": trial.climbed,
        "smallest_slack": trial.slack,
        "bound_used": trial.used,
        "violated": trial.violated,
        "verdict": verdict,
        "witness": name,
        "holds_instead": reading.repair if trial.violated else "",
    }


def _serves(kept: falsify.Witness, found: falsify.Witness) -> bool:
    """Returns whether a kept counterexample violates the reading of another one about as clearly."""
    return falsify.slack(kept._replace(reading=found.reading)) <= max(falsify.slack(found) / 3.0, -falsify.CLEAR)


def learn(effort: Effort, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lets exact learners update their policies with every algorithm and rule.

    Args:
        effort: how many learners and updates, on which tasks.
        seed: root of all randomness.

    Returns:
        The table `learning.csv`, a row for each task, number of agents, algorithm and rule, and the table `curves.csv`,
        a row for each update of these, with the mean return `eta`, which is times 1 - gamma.
    """
    rules = [learning.Rule("fixed", epsilon) for epsilon in EPSILONS]
    rules += [learning.Rule(name, alpha) for name in _HELD for alpha in ALPHAS]
    settings = [(algorithm, 0) for algorithm in effort.algorithms]
    settings += [("ippo", effort.samples)] if effort.samples else []
    rows, curves = [], []
    for task in effort.tasks:
        for num_agents in effort.agents:
            mdp = learning.task(task, num_agents, effort.learners, seed)
            for algorithm, samples in settings:
                began = time.perf_counter()
                history = learning.learn(mdp, algorithm, rules, effort.updates, seed, samples)
                name = f"{algorithm}, {samples} samples" if samples else algorithm
                for i, rule in enumerate(rules):
                    setting = {"task": task, "num_agents": num_agents, "algorithm": name}
                    setting |= {"rule": rule.name, "value": rule.value}
                    of_rule = learning.History(*(column[:, i :: len(rules)] for column in history))
                    rows.append(setting | _summary(of_rule, rule, num_agents, mdp))
                    for update, eta in enumerate(of_rule.eta.mean(axis=1)):
                        curves.append(setting | {"update": update, "eta": eta})
                seconds = time.perf_counter() - began
                tell(f"learning: {task}, {num_agents} agents, {name}: {seconds:.0f} s")
    return pd.DataFrame(rows), pd.DataFrame(curves)


def _summary(history: learning.History, rule: learning.Rule, num_agents: int, mdp: DecMDP) -> dict[str, float]:
    reward_max = np.abs(mdp.reward).max(axis=(1, 2))
    # Theorem 3 promises N eps for a fixed clip range eps.
    alpha = rule.value * num_agents if rule.name == "fixed" else rule.value
    return {
        "updates": history.joint_tv.size,
        "lowered": history.lowered(reward_max).mean(),
        "joint_tv_mean": history.joint_tv.mean(),
        "joint_tv_largest": history.joint_tv.max(),
        "ratio_deviation_largest": history.ratio_deviation.max(),
        "beyond_alpha": (history.joint_tv > alpha + 1e-6).mean(),
        "alpha_slack": alpha - history.joint_tv.max(),
        "certified": (history.lower_bound > 0).mean(),
        "eta_first": history.eta[0].mean(),
        "eta_last": history.eta[-1].mean(),
    }


def _clipped_updates(learned: pd.DataFrame) -> list[dict[str, Any]]:
    """Judges rules as they are used: updates by a rule for alpha should stay within alpha."""
    judged = []
    for rule, (statement, reading) in _HELD.items():
        rows = learned[learned.rule == rule]
        violated = round((rows.beyond_alpha * rows.updates).sum())
        judged.append(
            {
                "statement": statement,
                "reading": f"PPO's updates with {reading}: joint TV <= alpha",
                "instances": int(rows.updates.sum()),
                "on_the_way_up": 0,
                "smallest_slack": float(rows.alpha_slack.min()),
                "bound_used": float((rows.joint_tv_largest / rows.value).max()),
                "violated": violated,
                "verdict": "violated" if violated else "held",
                "witness": "learning.csv" if violated else "",
                "holds_instead": "PPO's updates with backtracking: joint TV <= alpha" if violated else "",
            }
        )
    return judged


def draw(folder: pathlib.Path) -> Study:
    """Draws plots and writes the page `theory.md` from the tables of a study in the same folder.

    Returns:
        The table of statements, and the paths of all files of the study.

    Raises:
        OSError: a table cannot be read, or a file cannot be written.
    """
    tables = [folder / f"{name}.csv" for name in ("statements", "learning", "curves")]
    statements, learned, curves = (pd.read_csv(path) for path in tables)
    page = folder / "theory.md"
    page.write_text(_page(statements, learned), "utf-8")
    plots_of = {name: plots.write(drawing, folder, name) for name, drawing in _drawings(learned, curves).items()}
    return Study(statements, [*tables, page, *plots_of.values(), *sorted((folder / "witnesses").glob("*.json"))])


def _drawings(learned: pd.DataFrame, curves: pd.DataFrame) -> dict[str, figure.Figure]:
    exact = learned[~learned.algorithm.str.contains("samples")]
    of_tasks = exact.groupby(_SETTING, sort=False)
    lowered, largest = of_tasks.lowered.mean().reset_index(), of_tasks.joint_tv_largest.max().reset_index()
    discounted = exact[exact.task == "random"]  # the volunteer game has one step, so its bound has no penalty
    ends = curves.num_agents.isin([curves.num_agents.min(), curves.num_agents.max()])
    return {
        "monotonicity": theory_plots.exact_updates(lowered, "lowered", "updates that lower the return"),
        "joint_tv": theory_plots.exact_updates(largest, "joint_tv_largest", "largest joint TV", limit=True),
        "certificate": theory_plots.exact_updates(discounted, "certified", "updates with a bound above 0"),
        "curves": theory_plots.exact_curves(curves[(curves.algorithm == "ippo") & ends], DRAWN),
    }


def _page(statements: pd.DataFrame, learned: pd.DataFrame) -> str:
    name, seed, commit = statements[["effort", "seed", "git_commit"]].iloc[0]
    effort = EFFORTS[name]
    in_grid = statements.stratum.notna() & (statements.stratum != "")
    lines = [
        "# The paper's statements, tried on tabular Dec-MDPs",
        "",
        f"`tf-marl theory{' --quick' * (name == 'quick')} --seed={seed}`, code of {commit}.",
        "Each statement, in each of its readings, says lhs <= rhs of a Dec-MDP with an old and a new policy.",
        "Slack is the smallest rhs - lhs: below 0 the claim is false, but 1e-9 counts as rounding, which is all",
        "there is to an identity's. Returns are times 1 - gamma, rewards at most 1. `used` is the most of lhs / rhs,",
        "1 where the bound is reached. `instances` are",
        f"random. Where those do not clearly refute a reading, {effort.steps} steps of gradient ascent on the",
        "violation follow, with 2 to 8 agents, from random instances and from some that are built to make bounds",
        "tight; every tenth step's instances are checked (`uphill`; identities are not climbed). Held means: no",
        "counterexample found, which is no proof; holds only if: none where the condition is met, and some elsewhere.",
        "`Ours` and `Repaired` are no claims of the paper. Proofs of what holds: `docs/proofs.md`.",
        "",
        markdown(
            ["statement", "reading", "instances", "uphill", "smallest slack", "used", "violated", "verdict", "instead"],
            [_statement_cells(row) for row in statements[~in_grid].itertuples()],
        ),
        "",
        "# Theorem 2, all readings",
        "",
        "`gain >= surrogate - 4 eps gamma / (1 - gamma)^2 alpha^2`. *surrogate*: the joint policy's; the sum of the",
        "agents', each with the others old (IPPO, MAPPO); or in sequence, those before by their new policies (the",
        "paper's proof), in the order 1 to N or in the order that fares worst. *eps*: the largest advantage of a joint",
        "action, or of one agent's action at what it sees. *alpha*: `both, as a product` has alpha^2 = joint TV x sum.",
        "Columns: what agents see, and what rewards depend on. A number is the most of lhs / rhs that was found.",
        "",
        markdown(["surrogate", "alpha", "eps", *_strata()], _grid_rows(statements[in_grid])),
        "",
        f"What holds instead of a surrogate with the others old: *{theorem_2.REPAIRED_SURROGATE}*.",
        f"What holds instead of the other readings that fail: *{theorem_2.REPAIRED_EPS}*.",
    ]
    lines += [
        "",
        "# What exact updates do",
        "",
        "Tabular softmax policies, all states and joint actions by their probability, advantages exact (or of sampled",
        f"rollouts, where it says so); {effort.learners} learners of each setting, {effort.updates} updates of 30",
        "epochs of Adam at 0.1. In HAPPO's updates each agent in turn has these epochs, in a random order; its joint",
        "advantage is multiplied by the ratios of the agents before it. The clip range is epsilon (`fixed`), alpha / N",
        "(`per_agent`) or sqrt((1 + 4 alpha^2)^(1/N) - 1), about 2 alpha / sqrt(N) (`per_sqrt_agents`); `backtrack`",
        "does not clip, and moves policies back until their joint total variation is at most alpha.",
        "",
        "`lowered`: updates that lower the true return, by 1e-6 of the largest reward or more. `beyond`: updates whose",
        "joint total variation, exact, at the worst state, is above alpha (`fixed`: above N epsilon). `certified`:",
        "Theorem 2's bound with the joint surrogate, all of it exact, is above 0 (the volunteer game has gamma = 0, so",
        "no penalty; random Dec-MDPs' gammas lie between 0 and 0.99). `first`, `last`: return times 1 - gamma. Means",
        f"over the tasks, {' and '.join(effort.tasks)}: random Dec-MDPs with two local states and actions; the",
        "volunteer game, in which exactly one agent should act. `learning.csv` has each task by itself, `curves.csv`",
        "each update.",
        "",
        "![Share of updates that lower the true return, mean of the tasks](monotonicity.png)",
        "![The largest joint total variation of any update](joint_tv.png)",
        "![Share of updates that the bound certifies, random Dec-MDPs](certificate.png)",
        "![The return after each update of IPPO](curves.png)",
        "",
        markdown(
            ["algorithm", "rule", "N", "lowered", "joint TV: mean", "largest", "beyond", "certified", "first", "last"],
            [_learning_cells(tasks) for _, tasks in learned.groupby(_SETTING, sort=False)],
        ),
    ]
    return "\n".join(lines) + "\n"


def _statement_cells(row: Any) -> list[str]:
    """Returns the cells of the page for a row of the table of statements."""
    used = "" if pd.isna(row.bound_used) else f"{row.bound_used:.3g}"
    cells = [row.statement, row.reading, f"{row.instances:,}", f"{row.on_the_way_up:,}", f"{row.smallest_slack:.2g}"]
    instead = "" if pd.isna(row.holds_instead) else row.holds_instead
    return [*cells, used, f"{row.violated:,}", f"{row.verdict}{_link(row.witness)}", instead]


def _grid_rows(statements: pd.DataFrame) -> list[list[str]]:
    """Returns the rows of the page's second table: a reading of Theorem 2 each, with a verdict for each stratum."""
    rows = []
    for reading, strata in statements.groupby("reading", sort=False):
        verdicts = []
        for stratum in _strata():
            (row,) = strata[strata.stratum == stratum].itertuples()
            verdicts.append(f"fails{_link(row.witness)}" if row.violated else f"held, {row.bound_used:.2g}")
        rows.append([part.split(": ", 1)[1] for part in reading.split("; ")] + verdicts)
    return rows


def _strata() -> list[str]:
    """Returns the names of the kinds of Dec-MDPs in which readings of Theorem 2 are tried."""
    return [stratum.name for stratum in STRATA]


def _link(witness: Any) -> str:
    """Returns a link to a counterexample, or nothing if there is none."""
    if pd.isna(witness) or not witness:
        return ""
    return f" ([witness]({'witnesses/' * witness.endswith('.json')}{witness}))"


def _learning_cells(tasks: pd.DataFrame) -> list[str]:
    """Returns the cells of the page for one setting of the learners, given its row of every task."""
    first, mean = tasks.iloc[0], tasks.mean(numeric_only=True)
    label = "no clipping" if first.value == float("inf") else f"{first.rule} {first.value:g}"
    cells = [first.algorithm, label, str(first.num_agents), f"{mean.lowered:.1%}", f"{mean.joint_tv_mean:.3f}"]
    cells += [f"{tasks.joint_tv_largest.max():.3f}", f"{mean.beyond_alpha:.0%}", f"{mean.certified:.1%}"]
    return [*cells, f"{mean.eta_first:.3f}", f"{mean.eta_last:.3f}"]
