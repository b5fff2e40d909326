"""Plots of one PPO run show what was measured."""

import numpy as np
import pandas as pd
import pytest

from tf_marl.agents.ppo import plots
from tf_marl.plots import JOINT_TVS


@pytest.fixture
def history():
    rng = np.random.default_rng(0)
    distributions = {name: np.sort(rng.random((5, 101)), axis=1) for name in ("agent_tv", *JOINT_TVS)}
    return {"ratio_min": np.linspace(1, 0.5, 5), **distributions}


def test_epochs_of_an_update_are_shown_as_percentiles(history):
    drawing = plots.epochs(history, "title")
    for plot, name in zip(drawing.axes, ("agent_tv", *JOINT_TVS), strict=True):
        np.testing.assert_array_equal(plot.get_lines()[0].get_ydata(), history[name][:, 100])
        styles = [str(line.get_linestyle()) for line in plot.get_lines()]
        assert len(set(styles)) == len(styles) > 1  # readable in grey
    table = plots.epochs_table(history)
    np.testing.assert_array_equal(table.ratio_min, history["ratio_min"])
    np.testing.assert_array_equal(table.joint_tv_p95, history["joint_tv"][:, 95])


def test_the_trust_region_over_training_is_shown_against_alpha():
    names = ["alpha", "agent_tv_max", *(f"{name}_max" for name in JOINT_TVS)]
    updates = {f"trust_region/{name}": np.linspace(1 + i, 2 + i, 10) for i, name in enumerate(names)}
    drawing = plots.trust_region(pd.DataFrame({"env_steps": np.arange(10) * 100, **updates}), "try $_$")
    drawing.draw_without_rendering()  # where a title that is no formula would fail
    (plot,) = drawing.axes
    curves = {line.get_label(): line for line in plot.get_lines()}
    np.testing.assert_array_equal(curves["alpha"].get_ydata(), updates["trust_region/alpha"])
    np.testing.assert_array_equal(curves["joint TV"].get_ydata(), updates["trust_region/joint_tv_max"])
    np.testing.assert_array_equal(curves["joint TV"].get_xdata(), np.arange(10) * 100)
    np.testing.assert_array_equal(curves["Hellinger bound"].get_ydata(), updates["trust_region/joint_tv_hellinger_max"])
    old = pd.DataFrame({"env_steps": np.arange(10), **updates}).drop(columns="trust_region/joint_tv_hellinger_max")
    (plot,) = plots.trust_region(old, "of an old run").axes
    assert {line.get_label() for line in plot.get_lines()} == curves.keys() - {"Hellinger bound"}
