# SPDX-License-Identifier: MIT OR Apache-2.0
"""Signals while the main thread is inside the library."""

import signal

import numpy as np
import pytest

import mnemo

# Interrupts the main thread once it is inside a call for some time; says how it ended, and that all is as before.
PROGRAM = """
import os, signal, threading, time
import numpy as np, mnemo

# Who starts tests in the background may have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
edm = mnemo.Process.ve_power(2, 1, 80)
data = mnemo.Dataset(rng.normal(size=(4000, 50)))
score = mnemo.Score.empirical(data, edm)
model = mnemo.Score.custom(edm, 2, lambda x, t: -x)
sleeper = mnemo.Score.custom(edm, 2, lambda x, t: time.sleep(1000))
x = rng.normal(size=(400_000, 50))

def interrupt():
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
began = time.monotonic()
try:
    {call}
    print("it ended by itself")
except KeyboardInterrupt as error:
    handler = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("interrupted", handler, time.monotonic() - began < 20, np.isfinite(score.sample(3)).all())
"""


@pytest.mark.parametrize(
    "call",
    [
        "score.score(x, 0.5)",
        "score.jvp(x, 0.5, x)",
        "mnemo.nearest(data, x)",
        "mnemo.memorization(data, x, 1.0)",
        "score.sample(64, steps=100_000)",
        "score.sample(64, steps=100_000, observer=lambda step, t, x: None, progress=lambda done, total: None)",
        "model.sample(3, 'euler', steps=1_000_000)",
        "sleeper.sample(3)",
    ],
)
def test_control_c(python, call):
    assert python(PROGRAM.format(call=call)) == "interrupted True True True\n"


class Alarm(Exception):
    pass


@pytest.fixture
def alarm():
    """Sets SIGALRM's handler and an interval in which it comes again and again."""
    before = signal.getsignal(signal.SIGALRM)

    def start(handler, seconds=0.02):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def stop(number, frame):
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise Alarm(number)


def test_any_handler_that_raises(score, alarm):
    alarm(stop)
    with pytest.raises(Alarm):
        score.sample(64, steps=1_000_000)
    assert signal.getsignal(signal.SIGALRM) is stop


def test_many_alarms_in_callbacks(process, alarm):
    """Wherever in a callback a handler raises, its exception arrives and no result is made of what was not computed."""
    armed = False

    def once(number, frame):
        nonlocal armed
        if armed:
            armed = False
            raise Alarm

    score = mnemo.Score.custom(process, 2, lambda x, t: 0 * x - 1)
    x, out = np.ones((2, 2)), np.empty((2, 2))
    alarm(once, 1e-4)
    for _ in range(300):
        with pytest.raises(Alarm):
            armed = True
            while True:
                score.score(x, 0.5, out=out)
                assert (out == -1).all()


def test_a_handler_that_does_not_raise(score, alarm):
    seen = []
    expected = score.sample(4, steps=3000)
    alarm(lambda number, frame: seen.append(number), 0.005)
    np.testing.assert_array_equal(score.sample(4, steps=3000), expected)
    assert seen


def test_a_handler_set_in_a_callback_stays(process):
    before = signal.getsignal(signal.SIGUSR1)

    def mine(number, frame):
        pass

    def eval(x, t):
        signal.signal(signal.SIGUSR1, mine)
        return -x

    try:
        signal.signal(signal.SIGUSR1, lambda number, frame: None)
        mnemo.Score.custom(process, 2, eval).score(np.ones((3, 2)), 0.5)
        assert signal.getsignal(signal.SIGUSR1) is mine
    finally:
        signal.signal(signal.SIGUSR1, before)
