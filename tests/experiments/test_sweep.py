"""Sweeps: from axes to runs, and from runs, which a stand-in for training makes here, to tables."""

import re

import gin
import mlflow
import pandas as pd
import pytest

from tf_marl.experiments import sweep

pytestmark = pytest.mark.usefixtures("clean_gin")

GRID = "sweep.grids = [{'algorithm': ['paper/ippo', 'mappo'], 'map': ['3m', '8m'], 'rule': [0.1, 'none', 'alpha']}]"
RULES = "sweep.rules = {'alpha': ['ppo.clip_range = @per_agent()', 'per_agent.alpha = 0.2']}"
# Records what training would, and fails where it is told to.
TRAINING = """
import pathlib, sys

from tf_marl import tracking

flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:] if "=" in argument)
if flags["seed"] == "1":
    sys.exit("error: seed 1 is none")
tracker = tracking.Tracker(
    flags["tracking_uri"], flags["experiment"], flags["run_name"], {}, {"num_agents": "3"},
    pathlib.Path(flags["root_dir"]) / "tracking", flags["parent_run_id"],
)
for env_steps in (100, 200):
    sizes = {"trust_region/joint_tv_max": 0.1, "train/loss": 1.0}
    tracker.record(env_steps, {"train/env_steps_per_second": 50.0, **sizes})
tracker.record(200, {"eval/battle_won_mean": 0.5, "eval/return_mean": 12.0})
tracker.record(200, {"best/battle_won_mean": 0.625, "best/return_mean": 13.0, "best/episode_length_mean": 20.0})
tracker.finish("FINISHED")
"""


def runs(*lines):
    gin.parse_config([GRID, RULES, *lines])
    return sweep.Sweep().runs()


def test_a_sweep_is_every_combination_a_seed_after_the_other():
    found = runs("sweep.seeds = 2")
    assert len({run.name for run in found}) == len(found) == 2 * 2 * 3 * 2
    assert [run.seed for run in found] == [0] * 12 + [1] * 12
    assert [run.key[:3] for run in found[:4]] == [
        ("paper/ippo", "3m", "0.1"),
        ("paper/ippo", "3m", "none"),
        ("paper/ippo", "3m", "alpha"),
        ("paper/ippo", "8m", "0.1"),
    ]
    only = runs("sweep.only = {'rule': [0.1, 0.7], 'map': ['8m']}", "sweep.seeds = 1")
    assert [run.key for run in only] == [("paper/ippo", "8m", "0.1", 0), ("mappo", "8m", "0.1", 0)]


def test_the_last_word_is_the_rules_and_the_papers_settings_hold_on_every_map():
    found = runs(
        "sweep.bindings = ['train.num_env_steps = 1']",
        "sweep.algorithm_bindings = {'mappo': ['train.num_env_steps = 2']}",
        "sweep.map_bindings = {'8m': ['train.num_env_steps = 3']}",
        "sweep.seeds = 1",
    )
    by_key = {run.key[:3]: run for run in found}
    assert by_key["mappo", "8m", "0.1"].bindings == (
        *(f"train.num_env_steps = {n}" for n in (1, 2, 3)),
        "ppo.clip_range = 0.1",
    )
    assert by_key["paper/ippo", "3m", "none"].bindings == ("train.num_env_steps = 1", "ppo.clip_range = None")
    assert by_key["mappo", "3m", "alpha"].bindings[-1] == "per_agent.alpha = 0.2"
    arguments = by_key["mappo", "3m", "0.1"].arguments()
    assert arguments[:3] == ["--gin_file=mappo.gin", "--gin_file=maps/3m.gin", "--seed=0"]
    assert by_key["paper/ippo", "3m", "0.1"].gin_files == ["maps/3m.gin", "paper/ippo.gin"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("sweep.grids = [{'map': ['3m']}]", "sweep.grids: each has the axes algorithm, map, rule, not map"),
        ("sweep.rules = {}", "rule 'alpha' is not in sweep.rules; choose one of: a number, none"),
        ("sweep.seeds = 'three'", "sweep.seeds: input should be a valid integer, not 'three'"),
        ("sweep.grids = 3", "sweep.grids: input should be an instance of Sequence, not 3"),
        ("sweep.bindings = 'a = 1'", "sweep.bindings: 'str' instances are not allowed as a Sequence value"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_told_in_a_line(line, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        runs(line)


@pytest.mark.parametrize(("rule", "clip"), [("0.1", 0.1), ("none", float("inf")), ("alpha / N", None)])
def test_a_rule_may_stand_for_a_clip_range(rule, clip):
    assert sweep.clip_range(rule) == clip


def test_tables_refuse_runs_of_other_settings(tmp_path):
    run, other, *_ = runs()
    row = dict(zip(("algorithm", "map", "rule", "seed"), run.key, strict=True))
    pd.DataFrame([row | {"settings": run.settings}]).to_csv(tmp_path / "runs.csv", index=False)
    tables = sweep.open_tables(tmp_path)
    assert sweep.missing([run, other], tables) == [other]
    with pytest.raises(ValueError, match="with other settings"):
        sweep.missing([run._replace(bindings=("train.num_env_steps = 1",))], tables)


@pytest.mark.parametrize(
    ("rule", "old"),
    [("none", "mappo.rnn = 'none'; mappo.clip_range = 10"), ("0.1", "jr_ppo.rnn = 'none'; jr_ppo.clip_range = 0.1")],
)
def test_older_tables_are_understood(rule, old, tmp_path):
    (run, *_) = (run for run in runs("sweep.bindings = [\"ppo.rnn = 'none'\"]") if run.rule == rule)
    row = dict(zip(("algorithm", "map", "rule", "seed"), run.key, strict=True))
    pd.DataFrame([row | {"settings": old}]).to_csv(tmp_path / "runs.csv", index=False)
    assert sweep.missing([run], sweep.open_tables(tmp_path)) == []


def test_what_is_left_may_take_what_its_like_took(tmp_path):
    short, long, other, unknown = (
        sweep.Run(algorithm, name, "0.1", 0, ())
        for algorithm, name in (("ippo", "3m"), ("ippo", "8m"), ("mappo", "8m"), ("jr_ppo", "25m"))
    )
    assert sweep.time_left([short], sweep.open_tables(tmp_path), 1) == "0:03:20"  # a guess
    rows = [
        dict(zip(("algorithm", "map", "rule", "seed"), run.key, strict=True)) | {"seconds": seconds}
        for run, seconds in ((short, 10.0), (long, 100.0))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "runs.csv", index=False)
    tables = sweep.open_tables(tmp_path)
    assert sweep.time_left([short, other], tables, 1) == "0:01:50"
    assert sweep.time_left([short, other], tables, 2) == "0:00:55"
    assert sweep.time_left([unknown], tables, 1) == "0:00:55"  # the median of all


@pytest.fixture
def train(tmp_path, store_in, monkeypatch):
    """(runs, tables, stop) -> those that failed; trained by the stand-in."""
    (tmp_path / "training.py").write_text(TRAINING)
    monkeypatch.chdir(tmp_path)
    store = store_in(tmp_path)

    def start(wanted, tables, stop=lambda: False):
        return sweep.train(wanted, tables, "all", "training", store, "tf_marl", 1, stop)

    return start


def test_runs_are_trained_into_the_tables_and_one_that_fails_stops_no_other(train, tmp_path, capfd):
    out = tmp_path / "out"
    out.mkdir()
    first, second = (run for run in runs("sweep.seeds = 2") if run.key[:3] == ("mappo", "3m", "none"))
    failed = train([second, first], sweep.open_tables(out))
    assert failed.keys() == {second}
    assert failed[second].startswith("error: seed 1 is none (exit code 1, see ")
    tables = sweep.open_tables(out)
    assert sweep.missing([first, second], tables) == [second]
    (row,) = tables["runs"].to_dict("records")
    told = {"num_agents": 3, "env_steps": 200, "seconds": 4.0, "eval/return_mean": 12.0, "settings": first.settings}
    assert {name: row[name] for name in told} == told
    curves = tables.select("curves", [first.key])
    assert list(curves["trust_region/joint_tv_max"].dropna()) == [0.1, 0.1]
    assert list(curves["eval/battle_won_mean"].dropna()) == [0.5]
    assert "train/loss" not in curves
    said = capfd.readouterr().err
    assert re.search(r"1 of 2: mappo_3m_none_seed1: failed; .* left\n2 of 2: mappo_3m_none_seed0: \d+ s; 0:00:00", said)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("tf_marl")
    in_store = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(in_store) == {"all", first.name}
    parent = in_store["all"].info
    assert in_store[first.name].data.tags["mlflow.parentRunId"] == parent.run_id
    assert (in_store[first.name].info.status, parent.status) == ("FINISHED", "FAILED")
    assert {file.path for file in client.list_artifacts(parent.run_id)} == {"runs.csv", "curves.csv"}


def test_who_is_stopped_before_it_begins_has_failed_at_nothing(train, tmp_path):
    tables = sweep.open_tables(tmp_path / "out")
    assert train(runs()[:2], tables, lambda: True) == {}
    assert tables["runs"].empty


def test_a_damaged_journal_is_named_and_what_to_do_about_it(train, tmp_path):
    journal = tmp_path / "out" / "runs" / "tracking" / "journal.jsonl"
    journal.parent.mkdir(parents=True)
    journal.touch()
    with pytest.raises(ValueError, match=re.escape(f"--out={tmp_path}/out: {journal}, line 1: ")) as error:
        train(runs()[:1], sweep.open_tables(tmp_path / "out"))
    assert f"move {journal.parent} elsewhere" in str(error.value)
