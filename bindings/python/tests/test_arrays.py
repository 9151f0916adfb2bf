# SPDX-License-Identifier: MIT OR Apache-2.0
"""What is taken for an array: layouts of numpy, DLPack producers."""

import dlpack
import ml_dtypes
import numpy as np
import pytest
from dlpack import Producer

import mnemo
from mnemo import _tensor


def same_memory(view, array):
    return view.tensor.data == array.__array_interface__["data"][0]


# ----- numpy ----------------------------------------------------------------------------------------------------------


def layouts(x):
    """The values of x, laid out in many ways: (array, whether it is used as it is)."""
    n, d = x.shape
    wide = np.zeros((n, d + 3), x.dtype)
    wide[:, 2:-1] = x
    thin = np.zeros((2 * n, d), x.dtype)
    thin[::2] = x
    raw = np.zeros(x.nbytes + 1, np.uint8)
    odd = raw[1:].view(x.dtype).reshape(n, d)
    odd[:] = x
    locked = x.copy()
    locked.flags.writeable = False
    yield x, True
    yield wide[:, 2:-1], True
    yield thin[::2], True
    yield locked, True
    yield np.asfortranarray(x), False
    yield np.repeat(x, 2, 1)[:, ::2], False
    yield x[::-1].copy()[::-1], False
    yield odd, False
    yield x.astype(x.dtype.newbyteorder()), False


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_layouts(score, rng, dtype):
    x = rng.normal(size=(6, 5)).astype(dtype)
    expected = score.score(x, 0.5)
    found = mnemo.nearest(mnemo.Dataset(x), x).distance
    for array, in_place in layouts(x):
        np.testing.assert_array_equal(score.score(array, 0.5), expected)
        np.testing.assert_array_equal(mnemo.nearest(mnemo.Dataset(array), array).distance, found)
        np.testing.assert_array_equal(mnemo.Dataset(array).gather(range(6)), x)
        assert same_memory(_tensor.matrix("x", array), array) == in_place


def test_broadcast_and_single_rows(score, rng):
    x = rng.normal(size=(1, 5))
    np.testing.assert_array_equal(score.score(np.broadcast_to(x, (4, 5)), 0.5), np.repeat(score.score(x, 0.5), 4, 0))
    np.testing.assert_array_equal(score.score(np.repeat(x, 2, 0)[::-1][:1], 0.5), score.score(x, 0.5))
    t = np.linspace(0.1, 1, 8)
    x = rng.normal(size=(4, 5))
    np.testing.assert_array_equal(score.score(x, t[::2]), score.score(x, t[::2].copy()))
    np.testing.assert_array_equal(score.score(x, t[::-2]), score.score(x, t[::-2].copy()))


def test_lists_and_numbers(score):
    np.testing.assert_array_equal(score.score([[1, 2, 3, 4, 5]], [0.5]), score.score(np.array([[1.0, 2, 3, 4, 5]]), 0.5))


def test_strided_outputs_keep_what_is_between(score, rng):
    x = rng.normal(size=(6, 5))
    wide, long = np.full((6, 9), np.nan), np.full(18, np.nan)
    score.eval(x, 0.5, out={"score": wide[:, 1:6], "entropy": long[::3]})
    expected = score.eval(x, 0.5, ("score", "entropy"))
    np.testing.assert_array_equal(wide[:, 1:6], expected.score)
    np.testing.assert_array_equal(long[::3], expected.entropy)
    assert np.isnan(wide[:, [0, 6, 7, 8]]).all() and np.isnan(long.reshape(6, 3)[:, 1:]).all()


# ----- DLPack ---------------------------------------------------------------------------------------------------------

VERSIONS = [None, (1, 0), (1, 9)]


@pytest.fixture(autouse=True)
def no_capsule_is_left():
    yield
    assert not dlpack.alive


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_dlpack_inputs(score, rng, version, dtype):
    x = rng.normal(size=(6, 5)).astype(dtype)
    for array, _ in list(layouts(x))[:7]:
        producer = Producer(array, version=version, read_only=version is not None)
        np.testing.assert_array_equal(score.score(producer, 0.5), score.score(x, 0.5))
    producer = Producer(x, version=version, strides=False, offset=16)
    np.testing.assert_array_equal(score.score(producer, Producer(np.full(6, 0.5))), score.score(x, 0.5))
    np.testing.assert_array_equal(score.jvp(producer, 0.5, producer), score.jvp(x, 0.5, x))
    np.testing.assert_array_equal(score.sample(producer, steps=3), score.sample(x, steps=3))
    assert same_memory(_tensor.matrix("x", Producer(x, version=version)), x)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8"])
def test_dlpack_rows(rng, version, dtype):
    rows = (rng.random((7, 2, 3)) * 9).astype(dtype)
    data = mnemo.Dataset(Producer(rows, version=version), Producer(np.arange(7)))
    assert (data.dtype, data.dim, data.labels) == (dtype, 6, 7)
    np.testing.assert_array_equal(data.gather(Producer(np.arange(7, dtype=np.int64))), rows.reshape(7, 6))


def test_bfloat16(rng):
    words, values = dlpack.bfloat16(rng.normal(size=(7, 4)))
    for array in (words, np.asfortranarray(words), np.repeat(words, 2, 0)[::2], np.repeat(words, 2, 1)[:, ::2]):
        data = mnemo.Dataset(Producer(array, "bfloat16"))
        assert data.dtype == "bfloat16"
        np.testing.assert_array_equal(data.gather(range(7)), values)
    process = mnemo.Process.flow()
    model = mnemo.Score.custom(process, 4, lambda x, t: Producer(words, "bfloat16"))
    np.testing.assert_array_equal(model.score(np.zeros((7, 4)), 0.5), values)
    with pytest.raises(mnemo.DtypeError, match="BF16"):
        model.score(Producer(words, "bfloat16"), 0.5)
    with pytest.raises(mnemo.DtypeError, match="bfloat16"):
        model.sample(Producer(words, "bfloat16"))


def test_bfloat16_of_ml_dtypes(rng):
    rows = rng.normal(size=(7, 4)).astype(ml_dtypes.bfloat16)
    data = mnemo.Dataset(rows[:, ::2])
    assert data.dtype == "bfloat16"
    np.testing.assert_array_equal(data.gather(range(7)), rows[:, ::2].astype(float))


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_dlpack_outputs(score, rng, version):
    x, out = rng.normal(size=(6, 5)), np.zeros((6, 5))
    producer = Producer(out, version=version)
    assert score.score(x, 0.5, out=producer) is producer
    np.testing.assert_array_equal(out, score.score(x, 0.5))
    assert score.sample(6, out=producer) is producer
    np.testing.assert_array_equal(out, score.sample(6))
    assert score.sample(x, out=producer) is producer
    np.testing.assert_array_equal(out, score.sample(x))
    out[:] = x
    assert score.sample(producer, out=producer) is producer
    np.testing.assert_array_equal(out, score.sample(x))


def test_pinned_memory_is_the_hosts(score, rng):
    x = rng.normal(size=(6, 5))
    np.testing.assert_array_equal(score.score(Producer(x, device=(3, 1)), 0.5), score.score(x, 0.5))


def test_dlpack_that_is_refused(score, rng):
    x = rng.normal(size=(6, 5))
    for call, kind, message in (
        (lambda: score.score(Producer(x, device=(2, 0)), 0.5), mnemo.DeviceError, "x: a CUDA tensor"),
        (lambda: score.score(Producer(x.T, device=(2, 0)), 0.5), mnemo.ShapeError, "x: elements of a row"),
        (lambda: score.score(x, 0.5, out=Producer(x, device=(2, 0), version=(1, 0))), mnemo.DeviceError, "outputs.score"),
        (lambda: score.sample(Producer(x, device=(2, 0))), TypeError, "x: on another device"),
        (lambda: score.score(Producer(x, device=(10, 0)), 0.5), mnemo.DeviceError, "device_type is 10"),
        (lambda: score.score(x, 0.5, out=Producer(x, version=(1, 0), read_only=True)), mnemo.InvalidError, "read-only"),
        (lambda: score.score(x, 0.5, out=Producer(x)), mnemo.InvalidError, "older than 1.0"),
        (lambda: score.score(Producer(x > 0), 0.5), mnemo.DtypeError, r"x: DLPack element type \(6, 8 bits"),
        (lambda: score.score(Producer(x, version=(2, 0)), 0.5), TypeError, "version 2"),
        (lambda: score.score(Producer(x[0]), 0.5), mnemo.ShapeError, "1 axes"),
    ):
        with pytest.raises(kind, match=message):
            call()

    class Unwilling:
        def __dlpack__(self, **options):
            raise BufferError("has a gradient; detach it")

        def __dlpack_device__(self):
            return 1, 0

    with pytest.raises(TypeError, match="x: .*detach it"):
        score.score(Unwilling(), 0.5)

    class Odd(Unwilling):
        def __dlpack__(self, **options):
            return x

    with pytest.raises(TypeError, match="no DLPack capsule"):
        score.score(Odd(), 0.5)


def test_a_result_keeps_the_memory_that_only_the_capsule_owns(score, rng):
    """The producer's array is gone when its capsule is: what is read afterwards must have kept the capsule."""
    x = rng.normal(size=(6, 5))

    class Temporary:
        def __dlpack__(self, **options):
            return Producer(x.copy()).__dlpack__()

        def __dlpack_device__(self):
            return 1, 0

    np.testing.assert_array_equal(score.score(Temporary(), 0.5), score.score(x, 0.5))
    view = _tensor.host_array("x", Temporary())
    assert len(dlpack.alive) == 1
    np.testing.assert_array_equal(view, x)
    del view
