# SPDX-License-Identifier: MIT OR Apache-2.0
"""Arrays on a CUDA device as far as a machine without one can tell: what reaches the library and what callbacks are lent.

The memory is the host's and says that it is a device's; nobody may touch it there. What is touched is in tests_cuda.
"""

import contextlib
import ctypes
import sys
import types

import numpy as np
import pytest
from dlpack import Producer

import mnemo
from mnemo import _abi, _device, _score, _tensor

CUDA = (2, 3)


def on_device(array, **options):
    return Producer(array, device=CUDA, version=(1, 0), **options)


# ----- What reaches the library ---------------------------------------------------------------------------------------


def test_every_argument_reaches_the_library_where_it_is(score, rows):
    """A context of the CPU says which one it cannot use."""
    x, vector, index = np.zeros((6, 5)), np.zeros(6), np.zeros(6, np.int64)
    data = mnemo.Dataset(rows)
    for call, name in (
        (lambda: score.score(on_device(x), 0.5), "x"),
        (lambda: score.score(x, on_device(vector)), "t"),
        (lambda: score.jvp(on_device(x), 0.5, x), "x"),
        (lambda: score.jvp(x, 0.5, on_device(x)), "v"),
        (lambda: score.jvp(x, 0.5, x, out=on_device(x)), "out"),
        (lambda: score.score(x, 0.5, out=on_device(x)), "outputs.score"),
        (lambda: score.log_density(x, 0.5, out=on_device(vector)), "outputs.log_density"),
        (lambda: score.eval(x, 0.5, (), out={"nearest_index": on_device(index)}), "outputs.nearest_index"),
        (lambda: score.sample(6, out=on_device(x)), "x_inout"),
        (lambda: mnemo.Dataset(on_device(rows)), "rows"),
        (lambda: mnemo.Dataset(on_device(rows.reshape(40, 5, 1))), "rows"),
        (lambda: mnemo.Dataset(rows, on_device(np.arange(40))), "labels"),
        (lambda: data.gather(on_device(index)), "index"),
        (lambda: data.gather(index, out=on_device(x)), "out"),
        (lambda: mnemo.nearest(data, on_device(x)), "queries"),
        (lambda: mnemo.nearest(data, x, out=(on_device(x[:, :1].copy()), None)), "distance"),
        (lambda: mnemo.nearest(data, x, out=(None, on_device(index[:, None]))), "index"),
        (lambda: mnemo.memorization(data, on_device(x), 0.1), "generated"),
    ):
        with pytest.raises(mnemo.DeviceError, match=f"^{name}: a CUDA tensor, but its context computes on the CPU"):
            call()
    states = on_device(x)
    with pytest.raises(mnemo.DeviceError, match="^x_inout: a CUDA tensor"):
        score.sample(states, out=states)


def test_a_device_array_is_described_as_it_is():
    x = np.zeros((6, 5), np.float32)
    view = _tensor.matrix("x", on_device(x[::2, 1:4]), stream=7).tensor
    assert (view.data, view.rows, view.cols, view.row_stride) == (x.ctypes.data + 4, 3, 3, 10)
    assert (view.dtype, view.device_type, view.device_id) == (_abi.MNEMO_F32, _abi.MNEMO_CUDA, 3)
    assert _tensor.matrix("x", on_device(x[:1])).tensor.row_stride == 0
    assert _tensor.matrix("x", on_device(x[:0])).tensor.rows == 0
    images = _tensor.matrix("rows", on_device(np.zeros((4, 2, 3, 5))[::2]), flatten=True).tensor
    assert (images.rows, images.cols, images.row_stride) == (2, 30, 60)


def test_what_cannot_be_used_where_it_is():
    x = np.zeros((6, 4))
    for call, kind, message in (
        (lambda: _tensor.matrix("x", on_device(x[:, ::2])), mnemo.ShapeError, "x: elements of a row are apart"),
        (lambda: _tensor.matrix("x", on_device(np.broadcast_to(x[:1], (6, 4)))), mnemo.ShapeError, "x: its rows overlap"),
        (lambda: _tensor.matrix("x", on_device(x[::-1])), mnemo.ShapeError, "run backwards"),
        (lambda: _tensor.matrix("x", on_device(x.reshape(6, 2, 2)[:, :, ::-1]), True), mnemo.ShapeError, "elements of a row"),
        (lambda: _tensor.output("out", on_device(x, read_only=True)), mnemo.InvalidError, "out: read-only"),
        (lambda: _tensor.output("out", Producer(x, device=CUDA)), mnemo.InvalidError, "older than 1.0"),
        (lambda: _tensor.output("out", on_device(x.reshape(6, 2, 2))), mnemo.ShapeError, "out: 3 axes"),
    ):
        with pytest.raises(kind, match=message):
            call()


@pytest.mark.parametrize("version", [None, (1, 0)])
def test_the_producer_is_told_the_stream(score, version):
    x = np.zeros((6, 5))
    for stream, asked in ((None, 1), (0, 1), (1, 1), (2, 2), (4096, 4096), (types.SimpleNamespace(cuda_stream=64), 64)):
        array = Producer(x, device=CUDA, version=version)
        with pytest.raises(mnemo.DeviceError, match="^x: a CUDA tensor"):
            score.eval(array, 0.5, stream=stream)
        assert array.asked == [asked]
    for stream in (-1, 1 << 64, "legacy", True):
        with pytest.raises(TypeError, match="stream: a CUDA stream's address"):
            score.eval(x, 0.5, stream=stream)


def test_a_cpu_context_hands_the_stream_to_callbacks(process, monkeypatch):
    seen, run = [], _score._run_eval
    monkeypatch.setattr(_score, "_run_eval", lambda *arguments: (seen.append(arguments[-1]), run(*arguments))[1])
    model, x = mnemo.Score.custom(process, 5, lambda x, t: x), np.zeros((6, 5))
    model.eval(x, 0.5, stream=4096)
    model.eval(x, 0.5, stream=1)
    model.eval(x, 0.5, check=True)
    model.sample(x, steps=1, stream=64)
    assert seen[:3] == [4096, None, None] and set(seen[3:]) == {64}


# ----- PyTorch's tensors ----------------------------------------------------------------------------------------------


class Stream:
    def __init__(self, handle):
        self.cuda_stream = handle


@pytest.fixture
def torch(monkeypatch):
    """What is used of PyTorch, over numpy."""
    module = types.ModuleType("torch")

    class Tensor(Producer):
        is_cuda = True

        def __init__(self, array, device=CUDA):
            super().__init__(array, device=device, version=(1, 0))
            self.device_pair, self.shape, self.dtype, self.recorded = device, array.shape, array.dtype, []

        device = property(lambda self: self.device_pair, lambda self, value: None)

        def clone(self, memory_format):
            return Tensor(np.ascontiguousarray(self.array.copy()))

        detach = resolve_neg = contiguous = lambda self: self

        def to(self, dtype):
            return Tensor(self.array.astype(dtype))

        def copy_(self, other):
            self.array[...] = other.array

        def record_stream(self, stream):
            made.append(("kept for", stream.cuda_stream))

    made = []

    def empty(shape, dtype, device):
        made.append((shape, np.dtype(dtype).name, device))
        return Tensor(np.zeros(shape, dtype))

    module.Tensor, module.empty, module.made, module.contiguous_format = Tensor, empty, made, None
    module.float32, module.float64, module.int64 = np.float32, np.float64, np.int64
    module.cuda = types.SimpleNamespace(
        current_stream=lambda device: Stream(48),
        default_stream=lambda device: Stream(0),
        ExternalStream=lambda handle, device: Stream(handle),
        device=lambda device: contextlib.nullcontext(),
    )
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


@pytest.fixture
def calls(monkeypatch):
    """The calls of the library: their names, and the stream and flags of their exec. They do nothing."""
    seen = []

    def record(function, arguments):
        how = next((a._obj for a in arguments if isinstance(getattr(a, "_obj", None), _abi.mnemo_exec)), None)
        seen.append((function.__name__, how and (how.stream or 0, how.flags)))

    monkeypatch.setattr("mnemo._call._invoke", record)
    return seen


def test_outputs_are_where_pytorchs_inputs_are(score, torch, calls):
    x = torch.Tensor(np.zeros((6, 5), np.float32))
    at = score.eval(x, 0.5, ("score", "log_density", "nearest_index"))
    assert all(isinstance(a, torch.Tensor) for a in (at.score, at.log_density, at.nearest_index))
    assert torch.made == [((6, 5), "float32", CUDA), ((6,), "float64", CUDA), ((6,), "int64", CUDA)]
    assert isinstance(score.jvp(x, 0.5, x), torch.Tensor)
    copied = score.sample(x)
    assert isinstance(copied, torch.Tensor) and copied is not x
    assert score.sample(x, out=x) is x
    out = torch.Tensor(np.ones((6, 5), np.float32))
    assert score.sample(x, out=out) is out and not out.array.any()
    assert score.sample(6, out=out, stream=64, check=True) is out
    stream = [("mnemo_score_eval", (48, 0)), ("mnemo_score_jvp", (48, 0)), *[("mnemo_sample", (48, 0))] * 3]
    assert calls == [*stream, ("mnemo_sample", (64, _abi.MNEMO_EXEC_CHECK))]
    assert set(x.asked) == {48, -1} and out.asked[-2:] == [-1, 64]  # -1: asked for its shape only


def test_other_functions_with_pytorchs_tensors(rows, torch, calls):
    data = mnemo.Dataset.__new__(mnemo.Dataset)
    data._info = _abi.mnemo_dataset_info(rows=40, dim=5)
    x = torch.Tensor(np.zeros((6, 5)))
    near = mnemo.nearest(data, x, 3)
    assert isinstance(near.distance, torch.Tensor) and near.index.array.shape == (6, 3)
    mnemo.memorization(data, x, 0.1)
    assert isinstance(data.gather(torch.Tensor(np.zeros(6, np.int64))), torch.Tensor)
    assert calls == [("mnemo_nearest", (48, 0)), ("mnemo_memorization", (48, 0)), ("mnemo_dataset_gather", None)]


def test_states_and_out_on_two_devices(score, torch):
    x, host = torch.Tensor(np.zeros((6, 5))), np.zeros((6, 5))
    for call, kind, message in (
        (lambda: score.sample(x, out=host), TypeError, "out: it must be a tensor on"),
        (lambda: score.sample(x, out=torch.Tensor(host, (2, 4))), TypeError, "out: it must be a tensor on"),
        (lambda: score.sample(x, out=torch.Tensor(host[:5])), mnemo.ShapeError, "out: float64 .*it must be as x"),
        (lambda: score.sample(x, out=torch.Tensor(host.astype("f4"))), mnemo.ShapeError, "out: float32"),
        (lambda: score.sample(6, out=torch.Tensor(host[:5])), mnemo.ShapeError, r"out: shape \(5, 5\)"),
        (lambda: score.sample(host, out=x), TypeError, "out: on another device"),
        (lambda: score.sample(torch.Tensor(host[0])), mnemo.ShapeError, "x: 1 axes"),
        (lambda: score.score(x, 0.5), mnemo.DeviceError, "^x: a CUDA tensor"),
    ):
        with pytest.raises(kind, match=message):
            call()


# ----- What callbacks are lent ----------------------------------------------------------------------------------------


def lent_tensor(array, device=(2, 3)):
    kind = _abi.MNEMO_F32 if array.dtype == np.float32 else _abi.MNEMO_F64
    cols = array.shape[1] if array.ndim == 2 else 1
    return ctypes.pointer(_abi.mnemo_tensor(array.ctypes.data, len(array), cols, 0, kind, *device))


@pytest.mark.parametrize("version", [None, (0, 8), (1, 0), (1, 3)])
@pytest.mark.parametrize("shape", [(6, 5), (6,), (0, 5)])
def test_a_lent_array_is_a_dlpack_producer(version, shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    array = _device.DeviceArray(lent_tensor(x), len(shape), 0)
    assert (array.shape, array.dtype, array.device, array.stream, len(array)) == (shape, "float32", 3, 0, len(x))
    assert array.__dlpack_device__() == CUDA and "cuda:3" in repr(array)
    options = {} if version is None else {"max_version": version}
    capsule = array.__dlpack__(**options)
    name = b"dltensor_versioned" if version and version[0] >= 1 else b"dltensor"
    assert _device.is_capsule(capsule, name)
    array._end()
    assert _device.is_capsule(capsule, b"used_dltensor") and "gone" in repr(array)
    with pytest.raises(BufferError, match="copy what is to be kept"):
        array.__dlpack__()


def test_numpy_takes_a_lent_array_and_gives_it_back():
    """numpy knows memory of the host only, so this one says that it is; its deleter is C's own `free`."""
    x = np.arange(30.0).reshape(6, 5)
    array = _device.DeviceArray(lent_tensor(x, (1, 0)), 2, 0)
    for _ in range(1000):
        taken = np.from_dlpack(array)
    np.testing.assert_array_equal(taken, x)
    assert taken.ctypes.data == x.ctypes.data
    array._end()
    vector = _device.DeviceArray(lent_tensor(x[:, 0].copy(), (1, 0)), 1, 0)
    assert np.from_dlpack(vector).strides == (8,)


def test_others_may_set_types_on_pythonapi(monkeypatch):
    for name in ("New", "SetName", "IsValid", "GetPointer"):
        monkeypatch.setattr(getattr(ctypes.pythonapi, f"PyCapsule_{name}"), "argtypes", [ctypes.POINTER(_abi.mnemo_error)] * 3)
    x = np.arange(30.0).reshape(6, 5)
    array = _device.DeviceArray(lent_tensor(x, (1, 0)), 2, 0)
    np.testing.assert_array_equal(np.from_dlpack(array), x)
    assert _tensor.matrix("x", array).tensor.data == x.ctypes.data
    array._end()


def test_another_stream_waits_for_that_of_the_call(monkeypatch):
    waited = []
    monkeypatch.setattr(_device, "wait", waited.append)
    x = np.zeros((6, 5))
    for mine, asked, waits in ((0, None, 0), (0, 1, 0), (0, 48, 1), (48, 48, 0), (48, None, 1), (48, 1, 1), (48, -1, 0)):
        waited.clear()
        _device.DeviceArray(lent_tensor(x), 2, mine).__dlpack__(stream=asked)
        assert waited == [mine] * waits, (mine, asked)
    array = _device.DeviceArray(lent_tensor(x), 2, 0)
    assert array.__dlpack__(dl_device=CUDA, copy=False)
    for options in ({"copy": True}, {"dl_device": (1, 0)}):
        with pytest.raises(BufferError, match="not copied"):
            array.__dlpack__(**options)


@pytest.fixture
def driver(monkeypatch):
    """What is asked of the driver, done in the host's memory."""
    asked = []

    def copy(to, source, size, stream):
        asked.append(("copy", size, stream))
        ctypes.memmove(to, source, size)

    monkeypatch.setattr(_device, "copy", copy)
    monkeypatch.setattr(_device, "wait", lambda stream: asked.append(("wait", stream)))
    return asked


def seen_by(array):
    """The numbers of a lent array: its memory is the host's."""
    array._kind = 1
    return np.from_dlpack(array)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_models_prediction_is_copied_on_the_stream_of_the_call(driver, rng, dtype):
    x, v, t, out = rng.normal(size=(6, 5)).astype(dtype), np.ones((6, 5), dtype), np.linspace(0, 1, 6), np.zeros((6, 5), dtype)
    kept = []

    def model(x, t, v=None):
        kept.extend((x, t))
        double = seen_by(x) * 2 + seen_by(t)[:, None] + (0 if v is None else seen_by(v))
        return on_device(double.astype(dtype))

    tensors = [lent_tensor(a) for a in (x, t, v, out)]
    _score._run_eval(model, tensors[0], tensors[1], tensors[3], 48)
    np.testing.assert_array_equal(out, (2 * x + t[:, None]).astype(dtype))
    assert driver[-2:] == [("copy", out.nbytes, 48), ("wait", 48)]
    _score._run_jvp(model, *tensors, None)
    np.testing.assert_array_equal(out, (2 * x + t[:, None] + v).astype(dtype))
    assert driver[-2:] == [("copy", out.nbytes, 0), ("wait", 0)]
    for array in kept:
        with pytest.raises(BufferError, match="returned"):
            array.__dlpack__()


def test_a_tensor_of_pytorchs_is_converted_and_kept_for_the_stream(driver, torch):
    x, t, out = np.ones((6, 5), np.float32), np.zeros(6), np.zeros((6, 5), np.float32)
    tensors = [lent_tensor(a) for a in (x, t, out)]
    _score._run_eval(lambda x, t: torch.Tensor(np.full((6, 5), 2.5)), *tensors, 64)
    assert (out == 2.5).all() and torch.made == [("kept for", 64)] and driver == [("copy", out.nbytes, 64)]
    _score._run_eval(lambda x, t: torch.Tensor(np.full((6, 5), 3.5)), *tensors, 48)
    assert (out == 3.5).all() and torch.made == [("kept for", 64)]


def test_predictions_that_are_refused(driver):
    x, t, out = np.ones((6, 5)), np.zeros(6), np.zeros((6, 5))
    for prediction, kind, message in (
        (x, TypeError, "what eval returned: in the host's memory; on this context x is on CUDA device 3"),
        (Producer(x, device=(2, 0), version=(1, 0)), TypeError, "on CUDA device 0; on this context x is on CUDA device 3"),
        (on_device(x[:5]), mnemo.ShapeError, r"eval returned an array \(5, 5\)"),
        (on_device(x.astype(np.float32)), mnemo.DtypeError, "element type float32; it must be that of x, float64"),
        (on_device(np.zeros((6, 10))[:, ::2]), mnemo.ShapeError, "not contiguous"),
        ("x", TypeError, "what eval returned"),
    ):
        with pytest.raises(kind, match=message):
            _score._run_eval(lambda x, t: prediction, *(lent_tensor(a) for a in (x, t, out)), 0)
    assert not driver and not out.any()


def test_an_observer_is_lent_the_state(driver):
    from mnemo import _sampler

    x, seen = np.arange(30.0).reshape(6, 5), []
    _sampler._run_observer(lambda step, t, x: seen.append((step, t, x, seen_by(x).copy())), 48, 3, 0.5, lent_tensor(x))
    ((step, t, array, state),) = seen
    assert (step, t, array.stream) == (3, 0.5, 48)
    np.testing.assert_array_equal(state, x)
    with pytest.raises(BufferError, match="returned"):
        array.__dlpack__()


def test_a_driver_that_is_not_there_is_an_error():
    with pytest.raises((OSError, mnemo.Error)):
        _device.wait(1)
