"""The published numbers, and ours beside them."""

import pytest

from tf_marl.paper import published


def test_published_numbers_are_those_of_the_papers_learning_rate():
    theirs = published.first_updates()
    assert set(theirs.actor_learning_rate) == {5e-4}
    row = theirs[(theirs["map"] == "2s3z") & (theirs.clip_epsilon == 0.1) & (theirs.epoch == 99)]
    assert row.max_joint_tv_sum_mean.item() == 0.3492
    assert row.ratio_max_mean.item() == 1.4077


def test_comparison_divides_our_means_over_seeds_by_the_published_ones(table):
    compared = published.compare(table)
    assert set(compared.epoch) == {10, 50, 99}
    row = compared[(compared["map"] == "2s3z") & (compared.clip_epsilon == 0.1) & (compared.epoch == 99)]
    assert row.agent_tv_ratio.item() == pytest.approx(0.1 / 0.1423)
    assert row.joint_tv_sum_ratio.item() == pytest.approx(0.025 * 5 / 0.3492)
