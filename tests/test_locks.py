"""`BargingLock`: one at a time, nobody forgotten, no convoy, and whoever interrupts leaves it to the others."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from atlas.scheduler import locks
from atlas.scheduler.clock import SystemClock
from atlas.scheduler.locks import BargingLock
from atlas.scheduler.store.intake import Intake
from atlas.scheduler.store.tickets import Ticket
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTERRUPTS = 500


@pytest.fixture(params=[1e-6, 0.005], ids=["shortest turns", "usual turns"])
def turns(request: pytest.FixtureRequest) -> Iterator[None]:
    """The interpreter changes threads in the middle of everything, or as it usually does."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(request.param)
    yield
    sys.setswitchinterval(usual_s)


def together(*calls: Callable[[], None]) -> None:
    """Call each on a thread of its own; none of them hangs or raises."""
    raised: list[BaseException] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)
            raise

    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
        assert not thread.is_alive(), "a thread waits for ever"
    assert raised == []


def is_free(lock: BargingLock) -> bool:
    """Whether a thread that has nothing to do with it could take it."""
    got: list[bool] = []
    together(lambda: got.append(lock.acquire(blocking=False)))
    return got == [True]


@pytest.mark.parametrize("patience_s", [0.0, 1e-5, locks.PATIENCE_S], ids=["in line at once", "soon", "as it is"])
@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.usefixtures("turns")
def test_one_at_a_time_and_everybody_in_the_end(
    threads: int, patience_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE_S", patience_s)
    lock, inside, done = BargingLock(), list[int](), list[int]()

    def come_and_go() -> None:
        me = threading.get_ident()
        for number in range(2000):
            if number % 7 == 0 and not lock.acquire(blocking=False):
                continue
            if number % 7:
                lock.acquire()
            with lock:  # once more
                inside.append(me)
                assert inside == [me]
                inside.pop()
            lock.release()
        done.append(me)

    together(*[come_and_go] * threads)
    assert len(done) == threads
    assert lock.acquire(blocking=False)


@pytest.mark.usefixtures("turns")
def test_it_serves_a_condition_as_a_lock_of_its_own_does() -> None:
    lock, box, got = BargingLock(), list[int](), list[int]()
    ready = lock.condition()

    def give() -> None:
        for number in range(500):
            with lock, ready:  # taken twice: a wait gives it back as a whole
                ready.wait_for(lambda: not box)
                box.append(number)
                ready.notify_all()

    def take() -> None:
        for _ in range(500):
            with ready:
                ready.wait_for(lambda: box)
                got.append(box.pop())
                ready.notify_all()

    together(give, take)
    assert got == list(range(500))
    with pytest.raises(RuntimeError, match="un-acquired"):
        ready.notify()


def test_who_comes_back_again_and_again_keeps_nobody_out() -> None:
    lock, came, begun = BargingLock(), threading.Event(), threading.Event()

    def stay() -> None:
        while not came.is_set():
            with lock:
                begun.set()

    def come() -> None:
        assert begun.wait(LIMIT_S)
        with lock:
            came.set()

    together(stay, come)


def test_who_runs_takes_it_again_although_another_one_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The point of it: of an RLock the second section would wait for the thread that got it without running."""
    monkeypatch.setattr(locks, "PATIENCE_S", LIMIT_S)
    lock, waits, order = BargingLock(), waiting(monkeypatch), list[str]()
    lock.acquire()

    def come() -> None:
        with lock:
            order.append("the one who waited")

    other = threading.Thread(target=come, daemon=True)
    other.start()
    assert waits.wait(LIMIT_S)
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(LIMIT_S)  # nobody else gets the interpreter before this thread waits for something
    try:
        lock.release()
        for _ in range(3):
            assert lock.acquire(blocking=False)
            order.append("the one who runs")
            lock.release()
    finally:
        sys.setswitchinterval(usual_s)
    other.join(LIMIT_S)
    assert order == ["the one who runs"] * 3 + ["the one who waited"]


def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Is set when somebody waits for a lock."""
    waits = threading.Event()

    def noted(pause_s: float) -> None:
        waits.set()
        time.sleep(pause_s)

    monkeypatch.setattr(locks, "sleep", noted)
    return waits


def test_another_thread_cannot_give_it_back() -> None:
    lock = BargingLock()
    kept: list[bool] = []
    together(lambda: kept.append(lock.acquire()))
    assert kept == [True]
    with pytest.raises(RuntimeError, match="un-acquired"):
        lock.release()
    assert not lock.acquire(timeout=0.01)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Calls something again and again on the main thread until a signal ends it with a `KeyboardInterrupt`."""
    main, over = threading.main_thread().ident, threading.Event()
    armed = False
    assert main is not None

    def interrupt(*_signal: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    def disturb() -> None:
        while not over.wait(0.0001):
            signal.pthread_kill(main, signal.SIGUSR1)

    def run(call: Callable[[], object]) -> None:
        nonlocal armed
        with suppress(KeyboardInterrupt):
            while True:
                armed = True  # once more where a finalizer was interrupted: what it raises is only told
                call()

    was, usual_s = signal.signal(signal.SIGUSR1, interrupt), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    gc.collect()
    gc.disable()  # what others left behind is not to be ended here, and interrupted
    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    yield run
    over.set()
    thread.join(LIMIT_S)
    gc.enable()
    sys.setswitchinterval(usual_s)
    signal.signal(signal.SIGUSR1, was)


def test_whatever_is_interrupted_leaves_it_free(interrupted: Callable[[Callable[[], object]], None]) -> None:
    for _ in range(INTERRUPTS):
        lock = BargingLock()

        def come_and_go(lock: BargingLock = lock) -> None:
            with lock:
                pass

        interrupted(come_and_go)
        assert is_free(lock)


def test_an_interrupt_of_the_inner_one_leaves_the_outer_one(
    interrupted: Callable[[Callable[[], object]], None],
) -> None:
    lock = BargingLock()

    def come_and_go() -> None:
        with lock:
            pass

    for _ in range(INTERRUPTS):
        with lock:
            interrupted(come_and_go)
            assert not is_free(lock)
    assert is_free(lock)


def test_an_interrupt_among_many_leaves_it_to_the_others(interrupted: Callable[[Callable[[], object]], None]) -> None:
    lock, over, inside = BargingLock(), threading.Event(), list[int]()

    def come_and_go() -> None:
        me = threading.get_ident()
        with lock:
            inside.append(me)
            try:
                assert inside == [me]
            finally:
                inside.clear()

    def stay() -> None:
        while not over.is_set():
            come_and_go()

    others = threading.Thread(target=together, args=(stay, stay), daemon=True)
    others.start()
    for _ in range(INTERRUPTS):
        interrupted(come_and_go)
    over.set()
    others.join(LIMIT_S)
    assert not others.is_alive()
    assert is_free(lock)


def test_an_interrupted_producer_leaves_the_intake_to_the_writer(
    interrupted: Callable[[Callable[[], object]], None],
) -> None:
    for _ in range(INTERRUPTS):
        intake = Intake(SystemClock())
        interrupted(lambda intake=intake: intake.work(lambda _connection: None, Ticket()))  # type: ignore[misc]
        assert is_free(intake._lock)


def test_an_interrupted_wait_leaves_it_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, waits, held, may_go = BargingLock(), waiting(monkeypatch), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            assert may_go.wait(LIMIT_S)

    def interrupt() -> None:
        assert waits.wait(LIMIT_S)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    threads = [threading.Thread(target=call, daemon=True) for call in (hold, interrupt)]
    threads[0].start()
    assert held.wait(LIMIT_S)
    threads[1].start()
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()
    may_go.set()
    for thread in threads:
        thread.join(LIMIT_S)
    assert is_free(lock)


def test_an_interrupted_wait_for_a_condition_comes_back_with_the_lock() -> None:
    """Else the way out of the section gives back what another thread has."""
    lock = BargingLock()
    ready, waits = lock.condition(), threading.Event()

    def wake_and_interrupt() -> None:
        assert waits.wait(LIMIT_S)
        main = threading.main_thread().ident
        assert main is not None
        with lock:
            ready.notify()
            threading.Event().wait(0.05)  # it waits for the lock now, for longer than it is patient
            signal.pthread_kill(main, signal.SIGINT)
            threading.Event().wait(0.05)
            assert not is_free(lock)

    other = threading.Thread(target=together, args=(wake_and_interrupt,), daemon=True)
    other.start()

    def wait() -> None:
        with lock:
            waits.set()
            ready.wait(LIMIT_S)

    with pytest.raises(KeyboardInterrupt):
        wait()
    other.join(LIMIT_S)
    assert is_free(lock)
