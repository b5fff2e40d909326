"""This module draws small random instances of Dec-MDPs."""

import numpy as np
import pytest

from tf_marl.dec_mdp import generators


@pytest.fixture(scope="session")
def draw():
    """Gives a function (seed, agents, local states, actions, whole, branches, batch) -> instances."""

    def instances(seed=0, agents=2, local_states=2, actions=2, whole=False, branches=None, batch=8):
        rng = np.random.default_rng(seed)
        structure = generators.structure(rng, agents, local_states, actions, whole, branches)
        return generators.realise(structure, generators.points(rng, structure, actions, batch))

    return instances
