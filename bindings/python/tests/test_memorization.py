# SPDX-License-Identifier: MIT OR Apache-2.0
import numpy as np
import pytest

import mnemo


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("k", [1, 3, 40])
def test_nearest(rows, rng, dtype, k):
    queries = rng.normal(size=(11, 5)).astype(dtype)
    distance = np.sqrt(((queries[:, None].astype(float) - rows[None]) ** 2).sum(-1))
    found = mnemo.nearest(mnemo.Dataset(rows), queries, k)
    assert found.distance.dtype == np.float64 and found.index.dtype == np.int64
    np.testing.assert_array_equal(found.index, distance.argsort(1, kind="stable")[:, :k])
    np.testing.assert_allclose(found.distance, np.sort(distance, 1)[:, :k], rtol=1e-12)


@pytest.mark.parametrize("k", [1, 40])
def test_cosine(rows, rng, k):
    queries = rng.normal(size=(11, 5))
    rows = rows * 10.0 ** rng.integers(-60, 60, size=(len(rows), 1))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rows[7] = unit[7] = 0
    distance = 1 - (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ unit.T
    found = mnemo.nearest(mnemo.Dataset(rows), queries, k, metric="cosine")
    np.testing.assert_array_equal(found.index, distance.argsort(1, kind="stable")[:, :k])
    np.testing.assert_allclose(found.distance, np.sort(distance, 1)[:, :k], rtol=0, atol=1e-14)


def test_ties_and_neighbours():
    data = mnemo.Dataset(np.array([[0.0], [1.0], [0.0], [2.0]]))
    distance, index = mnemo.nearest(data, np.array([[0.0]]), k=3)
    assert index.tolist() == [[0, 2, 1]] and distance.tolist() == [[0, 0, 1]]


def test_into_the_callers_memory(rows):
    data = mnemo.Dataset(rows)
    expected = mnemo.nearest(data, rows, 2)
    distance, index = np.full((40, 2), -1, np.float32), np.full((40, 2), -1)
    found = mnemo.nearest(data, rows, 2, out=(distance, index))
    assert found.distance is distance and found.index is index
    np.testing.assert_allclose(distance, expected.distance, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(index, expected.index)
    index[:] = -1
    assert mnemo.nearest(data, rows, 2, out=(None, index)).distance is None
    np.testing.assert_array_equal(index, expected.index)


def test_memorization(rows, rng):
    data = mnemo.Dataset(rows)
    samples = np.concatenate([rows[:6] + 1e-3, rng.normal(size=(7, 5)) + 5])
    nearest = mnemo.nearest(data, samples).distance[:, 0]
    report = mnemo.memorization(data, samples, 0.01)
    assert report == (13, 6, 6 / 13, nearest.min(), np.median(nearest), nearest.max())
    assert report._fields == ("samples", "copied", "fraction_copied", "min_distance", "median_distance", "max_distance")
    assert type(report.copied) is int and type(report.max_distance) is float


def test_arguments_that_are_refused(rows):
    data = mnemo.Dataset(rows)
    for call, kind, message in (
        (lambda: mnemo.nearest(data, rows, 0), mnemo.InvalidError, "k is 0"),
        (lambda: mnemo.nearest(data, rows, 41), mnemo.InvalidError, "k is 41"),
        (lambda: mnemo.nearest(data, rows, 2**63 - 1), mnemo.InvalidError, "k is"),
        (lambda: mnemo.nearest(data, rows, "two"), TypeError, "k"),
        (lambda: mnemo.nearest(data, rows[:, :2]), mnemo.ShapeError, "2 columns"),
        (lambda: mnemo.nearest(data, rows.astype(int)), mnemo.DtypeError, "I64"),
        (lambda: mnemo.nearest(data, rows, metric="angle"), mnemo.InvalidError, "'cosine'"),
        (lambda: mnemo.nearest(data, 0 * rows, metric="cosine"), mnemo.InvalidError, "row 0"),
        (lambda: mnemo.nearest(rows, rows), TypeError, "data"),
        (lambda: mnemo.nearest(data, rows, out=(np.zeros((40, 2)), None)), mnemo.ShapeError, "distance"),
        (lambda: mnemo.nearest(data, rows, out=(None, np.zeros((40, 1)))), mnemo.DtypeError, "index"),
        (lambda: mnemo.memorization(data, rows, 0), mnemo.InvalidError, "threshold"),
        (lambda: mnemo.memorization(data, rows, float("nan")), mnemo.InvalidError, "threshold"),
        (lambda: mnemo.memorization(data, rows, None), TypeError, "threshold"),
        (lambda: mnemo.memorization(data, rows[:0], 1.0), mnemo.InvalidError, "generated"),
        (lambda: mnemo.memorization(None, rows, 1.0), TypeError, "data"),
    ):
        with pytest.raises(kind, match=message):
            call()
