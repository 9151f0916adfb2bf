# SPDX-License-Identifier: MIT OR Apache-2.0
import gzip

import numpy as np
import pytest
from conftest import ROOT

import mnemo

DIGITS = ROOT / "examples/data/digits.npy"
LABELS = ROOT / "examples/data/digits-labels.npy"


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8"])
def test_copy_keeps_the_element_type(rng, dtype):
    rows = (100 * rng.random((7, 3))).astype(dtype)
    data = mnemo.Dataset(rows, scale=2, shift=-1)
    assert (data.rows, data.dim, data.dtype, data.labels, len(data)) == (7, 3, dtype, 0, 7)
    expected = 2.0 * rows.astype(np.float64) - 1
    assert (data.min, data.max) == (expected.min(), expected.max())
    np.testing.assert_array_equal(data.gather([6, 0, 0, 3]), expected[[6, 0, 0, 3]])
    rows[:] = 0  # it was copied
    np.testing.assert_array_equal(data.gather(np.arange(7)), expected)


def test_axes_after_the_first_are_one(rng):
    images = rng.random((6, 4, 3, 2), np.float32)
    np.testing.assert_array_equal(mnemo.Dataset(images).gather(range(6), np.float32), images.reshape(6, -1))
    np.testing.assert_array_equal(mnemo.Dataset(images[:, ::2]).gather(2), images[2:3, ::2].reshape(1, -1))


def test_lists():
    data = mnemo.Dataset([[1, 2], [3, 4]], labels=[5, 5])
    assert (data.dtype, data.labels) == ("float64", 1)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "int16", "uint32", "bool"])
def test_labels(rows, process, dtype):
    labels = np.arange(40) % 2
    data = mnemo.Dataset(rows, labels.astype(dtype))
    assert data.labels == 2
    one = mnemo.Score.empirical(data, process, label=1)
    alone = mnemo.Score.empirical(mnemo.Dataset(rows[1::2]), process)
    np.testing.assert_allclose(one.score(rows, 0.3), alone.score(rows, 0.3), rtol=1e-12)


def test_gather_types_and_places(rows):
    data = mnemo.Dataset(rows)
    assert data.gather(3).shape == (1, 5)
    assert data.gather([], np.float32).shape == (0, 5)
    out = np.full((2, 9), np.nan, np.float32)
    assert data.gather(np.array([4, 1], np.int32).astype(np.int64)[::-1], out=out[:, 2:7]) is not None
    np.testing.assert_array_equal(out[:, 2:7], rows[[1, 4]].astype(np.float32))
    assert np.isnan(out[:, :2]).all() and np.isnan(out[:, 7:]).all()
    with pytest.raises(mnemo.InvalidError, match="40"):
        data.gather(40)
    with pytest.raises(mnemo.ShapeError, match="out"):
        data.gather([1, 2], out=out)
    with pytest.raises(mnemo.DtypeError, match="index"):
        data.gather([0.5])


def test_open():
    data = mnemo.Dataset.open(DIGITS, LABELS, scale=1 / 8, shift=-1)
    rows = np.load(DIGITS)
    assert (data.rows, data.dim, data.dtype, data.labels) == (1797, 64, str(rows.dtype), 10)
    assert (data.min, data.max) == (-1, 1)
    np.testing.assert_array_equal(data.gather(range(1797)), rows.reshape(1797, -1) / 8 - 1)
    assert mnemo.Dataset.open(str(DIGITS)).max == 16


def test_open_gzip_and_odd_names(tmp_path):
    path = tmp_path / "zürich ☃.npy.gz"
    path.write_bytes(gzip.compress(DIGITS.read_bytes()))
    assert mnemo.Dataset.open(path).rows == 1797


def test_open_refuses(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        mnemo.Dataset.open(tmp_path / "none.npy")
    error = caught.value
    assert isinstance(error, mnemo.FileError) and (error.name, error.native, error.errno) == ("MNEMO_E_IO", 2, 2)
    assert "none.npy" in str(error) == error.message
    (tmp_path / "short.npy").write_bytes(DIGITS.read_bytes()[:500])
    with pytest.raises(mnemo.FileError, match="short.npy") as caught:
        mnemo.Dataset.open(tmp_path / "short.npy")
    assert isinstance(caught.value, OSError) and not isinstance(caught.value, FileNotFoundError)
    with pytest.raises(mnemo.InvalidError, match="NUL"):
        mnemo.Dataset.open("a\0b")
    with pytest.raises(TypeError):
        mnemo.Dataset.open(3)
    with pytest.raises(mnemo.Error, match="rows"):
        np.save(tmp_path / "labels.npy", np.zeros(3, np.int64))
        mnemo.Dataset.open(DIGITS, tmp_path / "labels.npy")


@pytest.mark.parametrize(
    "rows, kind, message",
    [
        (np.zeros((0, 3)), mnemo.InvalidError, "rows: 0 x 3"),
        (np.zeros((3, 0)), mnemo.InvalidError, "rows: 3 x 0"),
        (np.zeros(3), mnemo.ShapeError, "rows: 1 axes"),
        (np.zeros((3, 2), np.int64), mnemo.DtypeError, "rows"),
        (np.zeros((3, 2), np.int16), mnemo.DtypeError, "int16"),
        (np.zeros((3, 2), complex), mnemo.DtypeError, "complex128"),
        (np.array([[0, np.nan]]), mnemo.InvalidError, "row 0, column 1"),
        ([[1.0], [1.0, 2.0]], TypeError, "rows"),
        ("rows", mnemo.DtypeError, "rows"),
    ],
)
@pytest.mark.filterwarnings("ignore:Creating an ndarray from ragged")  # numpy before 1.24
def test_rows_that_are_refused(rows, kind, message):
    with pytest.raises(kind, match=message):
        mnemo.Dataset(rows)


def test_labels_and_options_that_are_refused(rows):
    for labels, kind in (([1, 2], mnemo.ShapeError), (np.zeros(40), mnemo.DtypeError), (np.zeros(40, "u8"), mnemo.DtypeError)):
        with pytest.raises(kind, match="labels"):
            mnemo.Dataset(rows, labels)
    with pytest.raises(mnemo.InvalidError, match="scale"):
        mnemo.Dataset(rows, scale=float("nan"))
    with pytest.raises(TypeError, match="shift"):
        mnemo.Dataset(rows, shift="a")
    with pytest.raises(TypeError, match="context"):
        mnemo.Dataset(rows, context=3)


def test_memory_limit(rows):
    small = mnemo.Context(memory_limit=100)
    with pytest.raises(MemoryError, match="memory_limit") as caught:
        mnemo.Dataset(rows, context=small)
    assert isinstance(caught.value, mnemo.OutOfMemoryError) and caught.value.name == "MNEMO_E_NOMEM"
