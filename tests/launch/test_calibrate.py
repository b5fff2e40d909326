"""The comparison with StarCraft II as a command."""

import pandas as pd
import pytest


def test_a_map_is_held_against_its_games(warm_launch, tmp_path):
    flags = ("--map=2m_vs_1z", "--battles=8", f"--out={tmp_path}/out", "--json")
    outcome = warm_launch("launch.calibrate", *flags)
    result = outcome.json()
    cells = pd.read_csv(tmp_path / "out" / "cells.csv")
    assert list(cells.script) == ["AC", "AF", "AW", "FF"]
    assert (cells.games == 10).all()
    assert (cells.battles == 8).all()
    assert cells.our_reward.between(0, 1).all()
    assert result["mean_difference"] == pytest.approx(cells.difference.abs().mean(), abs=1e-3)
    page = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert page.count("| 2m_vs_1z |") == 4
    drawn = {name: (tmp_path / "out" / name).read_bytes() for name in ("README.md", "cells.png")}
    assert len(drawn["cells.png"]) > 5_000
    for name in drawn:
        (tmp_path / "out" / name).unlink()
    assert warm_launch("launch.calibrate", "--draw", f"--out={tmp_path}/out", "--json").json() == result
    assert {name: (tmp_path / "out" / name).read_bytes() for name in drawn} == drawn


def test_a_table_that_is_not_there_cannot_be_drawn(warm_launch, tmp_path):
    outcome = warm_launch("launch.calibrate", "--draw", f"--out={tmp_path}")
    assert outcome.code == 2
    assert outcome.stderr.startswith("error: --out: ")
    assert "cells.csv" in outcome.stderr


def test_games_that_are_not_there_are_refused(warm_launch, tmp_path):
    outcome = warm_launch("launch.calibrate", "--map=25m", f"--out={tmp_path}/out")
    assert outcome.code == 2
    assert outcome.stderr.startswith("error: --map=25m: no game on it; there are: 10m_vs_11m, ")
    (tmp_path / "games.csv").write_text("script,map,final_reward,won\nWallOff,3m,0.5,1\n")
    outcome = warm_launch("launch.calibrate", f"--games={tmp_path}/games.csv", f"--out={tmp_path}/out")
    assert outcome.code == 2
    assert "error: script WallOff on 3m: there is none" in outcome.stderr
