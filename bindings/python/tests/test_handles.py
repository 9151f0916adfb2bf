# SPDX-License-Identifier: MIT OR Apache-2.0
"""Errors, and objects that are closed, collected, shared, forked and left behind."""

import copy
import gc
import itertools
import multiprocessing
import os
import pickle
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

import mnemo


def everything():
    """One object of every kind, each made from those before it."""
    context = mnemo.Context(1)
    data = mnemo.Dataset(np.arange(12.0).reshape(6, 2), context=context)
    process = mnemo.Process.flow()
    exact = mnemo.Score.empirical(data, process)
    custom = mnemo.Score.custom(process, 2, lambda x, t: -x, prediction="x0", context=context)
    return {"Context": context, "Dataset": data, "Process": process, "Score": exact, "custom": custom, "Cancel": mnemo.Cancel()}


USES = {
    "Context": lambda c: c.describe(),
    "Dataset": lambda d: d.gather(0),
    "Process": lambda p: p.eval(0.5),
    "Score": lambda s: s.score(np.ones((3, 2)), 0.5),
    "custom": lambda s: s.sample(3, "euler", "uniform_t"),
    "Cancel": lambda c: c.request(),
}


@pytest.mark.parametrize("name", USES)
def test_a_closed_object_says_so(name):
    thing = everything()[name]
    USES[name](thing)
    assert not thing.closed and thing.handle > 0 and repr(thing)
    thing.close()
    thing.close()
    assert thing.closed and repr(thing)
    for use in (USES[name], lambda thing: thing.handle):
        with pytest.raises(mnemo.InvalidError, match="closed") as caught:
            use(thing)
        assert isinstance(caught.value, ValueError) and caught.value.name == "MNEMO_E_INVALID"


def test_closed_objects_as_arguments(rows, process):
    closed = everything()
    for thing in closed.values():
        thing.close()
    data, score = mnemo.Dataset(rows), mnemo.Score.custom(process, 5, lambda x, t: -x)
    for call in (
        lambda: mnemo.Dataset(rows, context=closed["Context"]),
        lambda: mnemo.Score.empirical(closed["Dataset"], process),
        lambda: mnemo.Score.empirical(data, closed["Process"]),
        lambda: mnemo.nearest(closed["Dataset"], rows[:, :2]),
        lambda: mnemo.memorization(closed["Dataset"], rows[:, :2], 1.0),
        lambda: score.sample(3, cancel=closed["Cancel"]),
    ):
        with pytest.raises(mnemo.InvalidError, match="closed"):
            call()


@pytest.mark.parametrize("order", list(itertools.permutations(USES))[::37])
def test_any_order_of_closing(order):
    things = everything()
    for i, name in enumerate(order):
        things[name].close()
        for other in order[i + 1 :]:
            USES[other](things[other])


def test_with_and_garbage():
    with everything()["Score"] as score:
        score.score(np.ones((3, 2)), 0.5)
    assert score.closed
    with pytest.raises(LookupError), mnemo.Context() as context:
        raise LookupError
    assert context.closed
    native = [weakref.ref(thing) for thing in everything().values()]
    gc.collect()
    assert all(ref() is None for ref in native)


def test_nothing_leaks():
    from mnemo import _score

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    rows, gone = np.zeros((1000, 1000)), len(_score._models)
    for i in range(60):  # 8 MB each
        if i == 10:
            before = resident()
        data = mnemo.Dataset(rows)
        mnemo.Score.empirical(data, mnemo.Process.flow())
        mnemo.Score.custom(mnemo.Process.flow(), 2, lambda x, t: -x)
    assert resident() - before < 100e6
    assert len(_score._models) == gone


def test_objects_cannot_be_copied():
    for thing in everything().values():
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied or pickled"):
                attempt(thing)


def test_errors_can_be_pickled():
    try:
        mnemo.Dataset.open("/nowhere")
    except OSError as error:
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) is mnemo.MissingFileError
        assert (again.code, again.native, again.name, str(again)) == (6, 2, "MNEMO_E_IO", str(error))


def test_every_error_has_its_kind():
    for kind, builtin in (
        (mnemo.InvalidError, ValueError),
        (mnemo.ShapeError, ValueError),
        (mnemo.DtypeError, TypeError),
        (mnemo.DeviceError, RuntimeError),
        (mnemo.OutOfMemoryError, MemoryError),
        (mnemo.FileError, OSError),
        (mnemo.MissingFileError, FileNotFoundError),
        (mnemo.CallbackError, RuntimeError),
        (mnemo.UnsupportedError, NotImplementedError),
        (mnemo.Cancelled, Exception),
    ):
        assert issubclass(kind, mnemo.Error) and issubclass(kind, builtin)


# ----- Contexts -------------------------------------------------------------------------------------------------------


def test_context_options():
    context = mnemo.Context(3, instruction_set="portable")
    assert context.describe()["threads"] == 3 and context.describe()["backend"] == "cpu"
    assert context.warm_up() is None
    context.close()
    with pytest.raises(mnemo.InvalidError, match="closed"):
        context.warm_up()
    for make, kind, message in (
        (lambda: mnemo.Context(-1), mnemo.InvalidError, "num_threads is -1"),
        (lambda: mnemo.Context("two"), TypeError, "num_threads"),
        (lambda: mnemo.Context(memory_limit=2**64), mnemo.InvalidError, "memory_limit"),
        (lambda: mnemo.Context(instruction_set="neon"), mnemo.InvalidError, "'portable'"),
        (lambda: mnemo.Context(device="tpu"), mnemo.InvalidError, "'cuda'"),
        (lambda: mnemo.Context(device="cuda:x"), mnemo.InvalidError, "number"),
        (lambda: mnemo.Context(device="cuda:4096", kernel_cache_dir="/tmp"), mnemo.DeviceError, "driver"),
        (lambda: mnemo.Context(kernel_cache_dir="a\0b"), mnemo.InvalidError, "NUL"),
    ):
        with pytest.raises(kind, match=message):
            make()


def test_the_default_context():
    context = mnemo.default_context()
    assert mnemo.default_context() is context
    context.close()
    assert mnemo.default_context() is not context
    mnemo.Dataset(np.ones((1, 1)))


def test_two_contexts(rows, process):
    scores = [mnemo.Score.empirical(mnemo.Dataset(rows, context=mnemo.Context(n)), process) for n in (1, 4)]
    np.testing.assert_array_equal(scores[0].score(rows, 0.5), scores[1].score(rows, 0.5))


# ----- Threads --------------------------------------------------------------------------------------------------------


def together(count, work):
    """Run work(i) in `count` threads; what one raises is raised."""
    errors, start = [], threading.Barrier(count)

    def run(i):
        start.wait()
        try:
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_one_score_in_many_threads(score, rows):
    expected = score.score(rows, 0.5)
    together(6, lambda i: [np.testing.assert_array_equal(score.score(rows, 0.5), expected) for _ in range(50)])


def test_messages_of_threads_are_not_mixed(score, process):
    class Mine(Exception):
        pass

    def work(i):
        def eval(x, t):
            raise Mine(i)

        model = mnemo.Score.custom(process, i + 1, eval)
        for _ in range(100):
            with pytest.raises(mnemo.ShapeError, match=f"{i + 10} columns"):
                score.score(np.ones((2, i + 10)), 0.5)
            with pytest.raises(Mine) as caught:
                model.score(np.ones((2, i + 1)), 0.5)
            assert caught.value.args == (i,)

    together(6, work)


def test_closing_while_another_thread_is_inside(process):
    for _ in range(20):
        entered, leave = threading.Event(), threading.Event()

        def eval(x, t):
            entered.set()
            leave.wait()
            return -x

        score = mnemo.Score.custom(process, 2, eval)
        found = []
        thread = threading.Thread(target=lambda: found.append(score.score(np.ones((3, 2)), 0.5)))
        thread.start()
        entered.wait()
        score.close()
        with pytest.raises(mnemo.InvalidError, match="closed"):
            score.score(np.ones((3, 2)), 0.5)
        watch = weakref.ref(eval)
        del eval
        assert watch() is not None
        leave.set()
        thread.join()
        np.testing.assert_array_equal(found[0], -np.ones((3, 2)))
        gc.collect()
        assert watch() is None  # released by the call, once it had ended


def test_closing_against_using(rows, process):
    for _ in range(50):
        score = mnemo.Score.empirical(mnemo.Dataset(rows), process)

        def work(i):
            try:
                while i:
                    score.score(rows, 0.5)
                score.close()
            except mnemo.InvalidError as error:
                assert "closed" in str(error)

        together(4, work)


def test_cancel(score, rows):
    cancel = mnemo.Cancel()
    cancel.request()
    for call in (
        lambda: score.eval(rows, 0.5, cancel=cancel),
        lambda: score.jvp(rows, 0.5, rows, cancel=cancel),
        lambda: score.sample(3, cancel=cancel),
        lambda: mnemo.nearest(mnemo.Dataset(rows), rows, cancel=cancel),
        lambda: mnemo.memorization(mnemo.Dataset(rows), rows, 1.0, cancel=cancel),
    ):
        with pytest.raises(mnemo.Cancelled):
            call()
    cancel.reset()
    score.eval(rows, 0.5, cancel=cancel)


def test_cancel_from_another_thread(process):
    cancel, began = mnemo.Cancel(), threading.Event()

    def eval(x, t):
        began.set()
        return -x

    score = mnemo.Score.custom(process, 2, eval)
    threading.Thread(target=lambda: (began.wait(), cancel.request())).start()
    with pytest.raises(mnemo.Cancelled):
        score.sample(3, "euler", steps=100_000, cancel=cancel)


def test_other_threads_run_during_a_call(rng):
    data = mnemo.Dataset(rng.normal(size=(3000, 50)))
    beats, stop = [], threading.Event()

    def beat():
        while not stop.is_set():
            beats.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=beat)
    thread.start()
    began = time.monotonic()
    # Long enough for many beats, and without a callback that would let go of the interpreter.
    together(1, lambda i: mnemo.nearest(data, rng.normal(size=(6000, 50))))
    ended = time.monotonic()
    stop.set()
    thread.join()
    assert sum(began < beat < ended for beat in beats) > 3


# ----- Processes ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork(score, rows):
    expected = score.score(rows, 0.5)
    model = mnemo.Score.custom(score.process, 5, lambda x, t: score.score(x, t))
    child = os.fork()
    if child == 0:
        try:
            np.testing.assert_array_equal(score.score(rows, 0.5), expected)
            np.testing.assert_array_equal(model.score(rows, 0.5), expected)
            mnemo.Dataset(rows)
            score.close()
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(score.score(rows, 0.5), expected)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_multiprocessing(score, rows):
    global _shared
    _shared = score
    with multiprocessing.get_context("fork").Pool(2) as pool:
        parts = pool.map(_sample, range(4))
    np.testing.assert_array_equal(np.concatenate(parts), score.sample(4, steps=5))


def _sample(i):
    return _shared.sample(1, steps=5, first_sample=i)


MAKE = """
import threading, time, numpy as np, mnemo
data = mnemo.Dataset(np.random.default_rng(0).normal(size=(2000, 20)))
score = mnemo.Score.empirical(data, mnemo.Process.ve_power(2, 1, 80))
model = mnemo.Score.custom(mnemo.Process.flow(), 2, lambda x, t: -x, prediction='x0')
model.score(np.ones((3, 2)), 0.5)
score.sample(5)
cancel = mnemo.Cancel()
cycle = [score, model]; cycle.append(cycle)
"""


@pytest.mark.parametrize(
    "end",
    [
        "",
        "import os; os._exit(0)",
        "raise SystemExit(0)",
        "threading.Thread(target=lambda: score.sample(2000, steps=5)).start()",
        "threading.Thread(target=lambda: score.sample(9000, steps=1000), daemon=True).start(); time.sleep(0.2)",
        "threading.Thread(target=lambda: model.sample(9, 'euler', 'uniform_t', steps=9**6), daemon=True).start(); time.sleep(0.2)",
        "import sys; sys.last_value = score",
        "import atexit; atexit.register(lambda: score.sample(3))",
    ],
)
def test_the_interpreter_ends_silently(python, end):
    assert python(MAKE + end) == ""
