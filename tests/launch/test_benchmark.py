"""Timing the parts of training."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import launch


@pytest.mark.parametrize(("what", "num_envs"), [("env", 4), ("collect", 4), ("train", 4), ("smac_api", 1)])
def test_benchmark_reports_the_median_between_the_extremes(what, num_envs, warm_launch):
    result = warm_launch(
        "launch.benchmark",
        f"--what={what}",
        "--map=3m",
        "--num_envs=4",
        "--repeats=2",
        "--gin_bindings=ppo.hidden = (16,)",
        "--gin_bindings=train.rollout_steps = 8",
        "--json",
    ).json()
    assert {name: result[name] for name in ("what", "map", "num_envs", "repeats")} == {
        "what": what,
        "map": "3m",
        "num_envs": num_envs,
        "repeats": 2,
    }
    if what == "train":
        assert all(result[f"{part}_seconds"] > 0 for part in ("collect", "advantage", "update"))
        assert 0 < result["update_gflops_per_second"] < 2 * result["gemm_gflops_per_second"]
    fastest, slowest = result["env_steps_per_second_max"], result["env_steps_per_second_min"]
    assert 0 < slowest <= result["env_steps_per_second"] <= fastest


@pytest.mark.slow  # compiles two of the things that are timed
def test_speeds_are_put_into_one_table(warm_launch, tmp_path):
    table = tmp_path / "speeds.md"

    def measure(what, map_name):
        small = ("--num_envs=4", "--repeats=1", "--gin_bindings=train.rollout_steps = 8")
        result = warm_launch(
            "launch.benchmark", f"--what={what}", f"--map={map_name}", *small, f"--table={table}", "--json"
        ).json()
        return f"{float(format(result['env_steps_per_second'], '.3g')):,.0f}"

    def cells():
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.read_text().splitlines()]

    first, second = measure("env", "3m"), measure("env", "2s3z")
    collected = measure("collect", "3m")
    title, _, *rows = cells()
    assert title[:4] == ["map", "environments", "env", "collect"]
    assert [row[:4] for row in rows] == [["3m", "4", first, collected], ["2s3z", "4", second, ""]]
    again = measure("collect", "3m")
    assert [row[:4] for row in cells()[2:]] == [["3m", "4", first, again], ["2s3z", "4", second, ""]]

    table.write_text(table.read_text().replace(rows[0][-1], "an0ther"))
    last = measure("collect", "3m")
    assert [row[:4] for row in cells()[2:]] == [["3m", "4", "", last], ["2s3z", "4", second, ""]]
    table.write_text("a letter")
    refused = warm_launch("launch.benchmark", "--what=env", "--num_envs=4", "--repeats=1", f"--table={table}")
    assert (refused.code, table.read_text()) == (2, "a letter")
    assert f"--table={table}: holds no table of speeds" in refused.stderr


def test_environments_of_others_are_timed_too(warm_launch):
    pytest.importorskip("gymnasium", reason="the extra `worlds` is not there")
    flags = ("--what=env", "--map=gymnasium:CartPole-v1", "--num_envs=4", "--repeats=1", "--json")
    assert warm_launch("launch.benchmark", *flags).json()["env_steps_per_second"] > 0


def test_a_learner_that_is_not_ppo_is_timed_as_a_whole(warm_launch):
    small = ("--map=3m", "--num_envs=4", "--repeats=1", "--gin_bindings=train.rollout_steps = 8")
    outcome = warm_launch("launch.benchmark", "--what=train", "--gin_file=reinforce.gin", *small, "--json")
    result = outcome.json()
    assert result["learn_seconds"] > 0
    assert "update_seconds" not in result
    assert re.search(r"of an iteration: collect [\d.]+ s, learn [\d.]+ s$", outcome.stdout, re.MULTILINE)


def test_export_writes_a_module_with_its_arguments(warm_launch, tmp_path):
    small = ("--gin_bindings=ppo.hidden = (16,)", "--gin_bindings=train.rollout_steps = 8", "--num_envs=4")
    outcome = warm_launch("launch.benchmark", "--what=export", "--map=3m", f"--out={tmp_path}", *small, "--json")
    assert outcome.json()["module_bytes"] == (tmp_path / "module.mlir").stat().st_size
    main = re.search(r"func\.func (?:public )?@main\((.*?)\) -> \((.*?)\) \{", (tmp_path / "module.mlir").read_text())
    parameters, results = (re.findall(r"tensor<([^>]*)>", side) for side in main.groups())
    about = json.loads((tmp_path / "module.json").read_text())
    assert (about["map"], about["num_envs"]) == ("3m", 4)
    kinds = {"float32": "f32", "int32": "i32", "int64": "i64", "bool": "i1"}
    with np.load(tmp_path / "arguments.npz") as file:
        arguments = [file[name] for name in sorted(file)]
    described = ["x".join([*map(str, value.shape), kinds[str(value.dtype)]]) for value in arguments]
    assert described == parameters
    assert {"loss/policy", "tally/env_steps", "trust_region/agent_tv_max"} <= set(about["outputs"])
    # What goes round is of one type: after the results by name come the variables' new values, each once.
    assert [results[j] for j in about["feedback"] if j is not None] == [
        parameter for parameter, j in zip(parameters, about["feedback"], strict=True) if j is not None
    ]
    assert sorted(j for j in about["feedback"] if j is not None) == list(range(len(about["outputs"]), len(results)))


def test_export_needs_a_folder_and_only_export_takes_one(warm_launch, tmp_path):
    for arguments in (("--what=export",), ("--what=env", f"--out={tmp_path}")):
        outcome = warm_launch("launch.benchmark", *arguments)
        assert outcome.code == 2
        assert outcome.stderr.startswith("error: --out=DIR")


def test_a_folder_without_a_module_is_named(tmp_path):
    script = pathlib.Path(launch.__file__).with_name("run_exported.py")
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{tmp_path} holds no module.json" in done.stderr
