"""Counterexamples: found, minimised, kept, replayed."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest

from tf_marl.dec_mdp import falsify, statements
from tf_marl.dec_mdp.statements import READINGS, Case

RESULTS = pathlib.Path(__file__).parents[2] / "mlflow_artifacts/results/theory"
KEPT = sorted((RESULTS / "witnesses").glob("*.json"))
INDEPENDENT = "surrogate: others old; alpha: sum_k largest TV_k; eps: joint"


@pytest.fixture(scope="module")
def trials():
    return falsify.search(120, 0, 0, lambda text: None)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_kept_witness_is_a_counterexample(path):
    slack = falsify.slack(falsify.load(path))
    assert slack == pytest.approx(json.loads(path.read_text())["slack"], rel=1e-3)
    assert slack < -100 * statements.TOLERANCE


def test_whatever_was_refuted_has_a_kept_witness():
    table = pd.read_csv(RESULTS / "statements.csv", keep_default_na=False)
    refuted = table[table.violated.astype(int) > 0]
    kept = {path.name: falsify.load(path) for path in KEPT}
    readings = {reading.key: reading for reading in READINGS}
    # Rows of whole updates are refuted by learning.csv; test_learning.py refutes them again.
    assert set(refuted.witness) == {*kept, "learning.csv"}
    for row in refuted[refuted.witness != "learning.csv"].itertuples():
        witness = kept[row.witness]._replace(reading=readings[row.statement, row.reading, row.stratum])
        assert falsify.slack(witness) < -100 * statements.TOLERANCE, row.reading


def test_every_reading_is_tried_and_the_tally_is_right(trials):
    assert [trial.reading for trial in trials] == list(READINGS)
    for trial in trials:
        assert trial.tried >= (20 if trial.reading.stratum else 118)  # rounding of the shares
        assert (trial.violated > 0) == (trial.slack < -statements.TOLERANCE)
        assert (trial.witness is not None) == (trial.violated > 0)
        assert (trial.verdict == "held") == (trial.violated == 0)


def test_a_minimised_witness_is_plainer_and_survives_its_file(trials, tmp_path):
    trial = next(t for t in trials if t.reading.key[1:] == (INDEPENDENT, "whole state, r(s, a)"))
    witness = falsify.minimise(trial.witness)
    path = falsify.save(witness, tmp_path)
    again = falsify.load(path)
    assert again.reading == trial.reading
    for name, table in witness.tables.items():
        np.testing.assert_array_equal(again.tables[name], table)
    assert float(again.reading.check(Case(falsify.instances(again.tables))).slack[0]) < 0
    assert witness.tables["gamma"] == 0.0  # it needs no future


def test_climbing_refutes_what_random_instances_do_not(trials):
    """The theorem as proved, and with a single agent's advantage while the others are old."""
    names = [f"surrogate: joint; alpha: largest joint TV; eps: {eps}" for eps in ("in sequence", "others old")]
    found = [t for t in trials if t.reading.name in names and t.reading.key[2] == "whole state, r(s, a)"]
    assert all(trial.slack > -1e-3 for trial in found)
    readings = [trial.reading for trial in found]
    *_, last = falsify.climb(readings, falsify.CLIMBED[0], False, 60, 0)
    assert all(np.min(reading.check(last).slack) < -1e-3 for reading in readings)
    assert last.mdp.start.shape[0] == 2 * 16


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no witness"),
        ("{}", "is no witness"),
        ('{"statement": "Theorem 9", "reading": "any", "stratum": "", "slack": -1}', "no reading of Theorem 9"),
    ],
)
def test_a_file_that_is_no_witness_is_refused(text, says, tmp_path):
    path = tmp_path / "witness.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        falsify.load(path)
