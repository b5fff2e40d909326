"""Tables that grow a run at a time."""

import pytest

from tf_marl.experiments.tables import Tables, markdown

KEYS = {"rule": str, "clip": float, "seed": int}


def rows(rule, clip, seed, steps=2):
    key = {"rule": rule, "clip": clip, "seed": seed}
    return {"runs": [key | {"score": 0.5}], "curves": [key | {"step": step} for step in range(steps)]}


def test_what_was_added_is_there_for_the_next_one_too(tmp_path):
    tables = Tables(tmp_path, ("runs", "curves"), KEYS)
    assert not tables.have(("none", 0.1, 0))
    assert tables.select("runs", [("none", 0.1, 0)]).empty
    tables.add(rows("none", 0.1, 0))
    tables.add(rows("1.0", 0.3, 1, steps=3))
    for again in (tables, Tables(tmp_path, ("runs", "curves"), KEYS)):
        assert again.have(("none", 0.1, 0))
        assert again.have(("1.0", 0.3, 1))
        assert not again.have(("none", 0.1, 1))
        assert list(again.select("curves", [("1.0", 0.3, 1), ("nobody", 0.3, 1)]).step) == [0, 1, 2]
        assert len(again["curves"]) == 5
    assert {path.name for path in tmp_path.iterdir()} == {"runs.csv", "curves.csv"}


def test_a_run_that_was_not_saved_to_the_end_is_not_there(tmp_path):
    tables = Tables(tmp_path, ("runs", "curves"), KEYS)
    tables.add(rows("none", 0.1, 0))
    (tmp_path / "runs.part").mkdir()  # so that the table which tells what there is cannot be written
    with pytest.raises(OSError, match=r"runs\.part"):
        tables.add(rows("none", 0.1, 1))
    assert not Tables(tmp_path, ("runs", "curves"), KEYS).have(("none", 0.1, 1))


def test_whole_numbers_and_texts_stay_what_they_are(tmp_path):
    Tables(tmp_path, ("runs", "curves"), KEYS).add(rows("none", 10.0, 0))
    assert (tmp_path / "curves.csv").read_text().splitlines()[1] == "none,10,0,0"
    table = Tables(tmp_path, ("runs", "curves"), KEYS)["runs"]
    assert list(table["rule"]) == ["none"]
    assert (table["clip"].dtype, table["seed"].dtype) == (float, int)


def test_markdown_takes_texts_as_they_are():
    lines = markdown(["p", "p"], [["0.30", "E|x|"], [1, ""]]).splitlines()
    assert [line.replace(" ", "") for line in lines] == ["|p|p|", "|:-----|:-------|", r"|0.30|E\|x\||", "|1||"]
