"""Linear systems are solved by products with their matrix."""

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.ops.conjugate_gradients import conjugate_gradients

SIZE = 12


def positive_definite(rng, eigenvalues):
    basis, _ = np.linalg.qr(rng.normal(size=(len(eigenvalues), len(eigenvalues))))
    return basis @ np.diag(eigenvalues) @ basis.T


def solve(matrix, b, num_iterations):
    return conjugate_gradients(lambda v: tf.linalg.matvec(matrix, v), tf.constant(b), num_iterations, 1e-12).numpy()


def test_as_many_iterations_as_unknowns_solve_a_system(rng):
    matrix, b = positive_definite(rng, rng.uniform(0.1, 10.0, SIZE)), rng.normal(size=SIZE)
    np.testing.assert_allclose(solve(matrix, b, SIZE), np.linalg.solve(matrix, b), rtol=1e-6)


def test_as_many_iterations_as_distinct_eigenvalues_are_enough(rng):
    matrix, b = positive_definite(rng, np.repeat([0.5, 2.0, 7.0], SIZE // 3)), rng.normal(size=SIZE)
    exact = np.linalg.solve(matrix, b)
    np.testing.assert_allclose(solve(matrix, b, 3), exact, rtol=1e-8)
    assert np.abs(solve(matrix, b, 2) - exact).max() > 1e-3


def test_more_iterations_come_nearer_in_the_norm_of_the_matrix(rng):
    matrix, b = positive_definite(rng, np.geomspace(0.01, 10.0, SIZE)), rng.normal(size=SIZE)
    off = [solve(matrix, b, i) - np.linalg.solve(matrix, b) for i in range(1, SIZE)]
    assert np.all(np.diff([error @ matrix @ error for error in off]) < 0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_asked_for_and_nothing_is_found(dtype):
    np.testing.assert_array_equal(solve(np.eye(SIZE, dtype=dtype), np.zeros(SIZE, dtype), 5), np.zeros(SIZE))
