"""What holds the trust region, and at what price: trains with several rules on maps of 2 to 27 agents, and tabulates.

python -m launch.enforcement

A run that is in the table already is not run again, so a stopped table is taken up where it stopped.
"""

import pathlib
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from absl import flags

from launch import app

if TYPE_CHECKING:
    import pandas as pd

FLAGS = flags.FLAGS
RESULTS = app.STORE_FOLDER / "results" / "enforcement"
MAPS = ("2s_vs_1sc", "3m", "2s3z", "8m", "10m_vs_11m", "27m_vs_30m")  # 2, 3, 5, 8, 10 and 27 agents
# What each rule is in gin; backtracking starts from the widest range, so that it has something to hold.
RULES = {
    "fixed 0.1": ["ippo.clip_range = 0.1"],
    "fixed 0.3": ["ippo.clip_range = 0.3"],
    "per_agent": ["ippo.clip_range = @per_agent()", "per_agent.alpha = {alpha}"],
    "backtrack": ["ippo.clip_range = 0.3", "ippo.enforce = [@backtrack()]", "backtrack.alpha = {alpha}"],
}
QUANTITIES = ("joint_tv", "joint_tv_product", "joint_tv_sum")

app.define_json_flag()
flags.DEFINE_multi_string("map", list(MAPS), "SMAC map; repeats.")
flags.DEFINE_multi_enum("rule", list(RULES), list(RULES), "Rule; repeats.")
flags.DEFINE_integer("seeds", 3, "Runs of each rule on each map.", lower_bound=1)
flags.DEFINE_integer("env_steps", 150_000, "Env steps that a run trains for.", lower_bound=1)
flags.DEFINE_float("alpha", 0.2, "What the joint total variation is to stay below.", lower_bound=0.0)
flags.DEFINE_integer("full_every", 5, "Updates from one that is measured in full to the next.", lower_bound=1)
flags.DEFINE_multi_string("gin_bindings", [], "Gin binding on top of ippo.gin; give another --out with it.")
flags.DEFINE_string("out", str(RESULTS), "Folder for runs.csv and enforcement.md.")


def main() -> int:
    folder = app.writable_folder(FLAGS.out, "out")
    gin_paths = app.gin_paths(["ippo.gin", *(f"maps/{name}.gin" for name in FLAGS.map)])
    app.import_quietly()
    import pandas as pd

    path = folder / "runs.csv"
    runs = pd.read_csv(path).to_dict("records") if path.is_file() else []
    todo = [(m, rule, seed) for seed in range(FLAGS.seeds) for m in FLAGS.map for rule in FLAGS.rule]
    for i, (map_name, rule, seed) in enumerate(todo):
        asked = {"map": map_name, "rule": rule, "seed": seed, "alpha": FLAGS.alpha, "budget": FLAGS.env_steps}
        if any(asked.items() <= run.items() for run in runs):
            continue
        began = time.perf_counter()
        map_path = gin_paths[1 + FLAGS.map.index(map_name)]
        runs.append(asked | app.in_a_process(_train, gin_paths[0], map_path, rule, seed))
        pd.DataFrame(runs).to_csv(path, index=False, float_format="%.6g")
        seconds = time.perf_counter() - began
        print(f"{i + 1} of {len(todo)}: {map_name}, {rule}, seed {seed}: {seconds:.0f} s", file=sys.stderr, flush=True)
    table = pd.DataFrame(runs)
    table = table[table.alpha == FLAGS.alpha]
    _write(table, folder / "enforcement.md")
    print(f"written to {folder}")
    if FLAGS.json:
        app.print_json({"runs": table.to_dict("records")})
    return 0


def _train(algorithm_path: str, map_path: str, rule: str, seed: int) -> dict[str, float]:
    """One run: what it came to, and the sizes of its updates."""
    import numpy as np

    from tf_marl import environments
    from tf_marl.training.train import Trainer

    settings = [f"train.num_env_steps = {FLAGS.env_steps}", f"diagnostics.full_every = {FLAGS.full_every}"]
    settings += [
        "train.eval_every_env_steps = 1_000_000_000",
        "diagnostics.num_samples = 256",
        "diagnostics.max_states = 1024",
    ]
    settings += [line.format(alpha=FLAGS.alpha) for line in RULES[rule]]
    app.parse_gin([algorithm_path, map_path], settings + FLAGS.gin_bindings)
    recorded: list[dict[str, float]] = []
    histories: list[dict[str, np.ndarray]] = []
    with tempfile.TemporaryDirectory() as root_dir:
        with app.bad_input():
            environment = environments.load(seed=seed)
            trainer = Trainer(environment=environment, root_dir=root_dir, seed=seed)
        result = trainer.run(lambda _, m: recorded.append(m), keep=lambda _, history: histories.append(history))
    row: dict[str, float] = {
        "num_agents": environment.core.action_spec.shape[0],
        "env_steps": result.env_steps,
        "epsilon": _mean(recorded, "trust_region/epsilon"),
        "clip_fraction": _mean(recorded, "trust_region/clip_fraction"),
        "step_share": _mean(recorded, "trust_region/step_share"),
        "alpha_needed": _mean(recorded, "certificate/alpha_needed"),
        "vacuous": _mean(recorded, "certificate/vacuous"),
        "exact": float(np.mean([history["exact"][-1] for history in histories])),
        "battle_won_mean": result.evaluation["eval/battle_won_mean"],
        "return_mean": result.evaluation["eval/return_mean"],
    }
    for name in QUANTITIES:
        row[f"{name}_max"] = _mean(recorded, f"trust_region/{name}_max")
        row[f"{name}_highest"] = max(metrics.get(f"trust_region/{name}_max", 0.0) for metrics in recorded)
        percentiles = np.array([history[name][-1] for history in histories])
        row[f"{name}_within"] = float((percentiles <= FLAGS.alpha).mean())
    return row


def _mean(recorded: list[dict[str, float]], name: str) -> float:
    values = [metrics[name] for metrics in recorded if name in metrics]
    return sum(values) / len(values) if values else float("nan")


def _write(runs: "pd.DataFrame", path: pathlib.Path) -> None:
    """The table to read: means over seeds."""
    columns = ["N", "map", "env steps", "seeds", "rule", "epsilon", "joint TV", "product bound", "sum bound"]
    columns += ["states within alpha: joint TV", "product", "sum", "step kept", "won", "return"]
    lines = [
        f"How far IPPO's updates go by rule, alpha = {FLAGS.alpha:g}: `python -m launch.enforcement --map=MAP",
        f"--env_steps=STEPS --alpha={FLAGS.alpha:g}`, with each row's own.",
        "Total variation from the policy that collected a rollout to the one after the update: the largest over the",
        "rollout's states, as a mean over updates and seeds, in brackets the largest of all. The bounds are those at",
        "all states; joint TV is measured at the 32 states where the product bound is largest. States within alpha are",
        f"counted every {FLAGS.full_every} updates: all of them, for joint TV 1,024. `won` and `return` are of the 32",
        "greedy episodes at the end.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
    ]
    for (num_agents, map_name, budget), of_map in runs.groupby(["num_agents", "map", "budget"]):
        for rule in RULES:
            seeds = of_map[of_map.rule == rule]
            if seeds.empty:
                continue
            mean = seeds.mean(numeric_only=True)
            cells = [num_agents, map_name, f"{budget:,}", len(seeds), rule, f"{mean.epsilon:.3g}"]
            cells += [f"{mean[f'{name}_max']:.3f} ({seeds[f'{name}_highest'].max():.3f})" for name in QUANTITIES]
            cells += [f"{mean[f'{name}_within']:.0%}" for name in QUANTITIES]
            cells += ["" if mean.isna().step_share else f"{mean.step_share:.2f}"]
            cells += [f"{mean.battle_won_mean:.2f}", f"{mean.return_mean:.1f}"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    app.run(main)
