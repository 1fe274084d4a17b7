"""Functions in killable processes: real ones, killed for real."""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from multiprocessing import util
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest

from atlas.scheduler.errors import FunctionRefusedError, QueueStoppedError
from atlas.scheduler.executors.process.child import WorkerCall
from atlas.scheduler.executors.process.pool import WorkerHandle, WorkerPool
from atlas.scheduler.executors.process.spawning import WorkerProcess
from atlas.scheduler.outcome import MAX_ERROR_BYTES, MAX_RESULT_BYTES, Crashed, Outcome, Raised, Returned, Stopped
from tests.queue_bench import LIMIT_S, eventually

if TYPE_CHECKING:
    from atlas.scheduler.outcome import StopReason

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes through Linux's pidfd")


class Attempt:
    """One call given to a pool, with what came of it."""

    def __init__(self, bench: Bench, task_id: str) -> None:
        self._bench, self.task_id = bench, task_id
        self.handle: WorkerHandle
        self.outcomes: Queue[Outcome] = Queue()

    def outcome(self) -> Outcome:
        return self.outcomes.get(timeout=LIMIT_S)

    def begun(self) -> tuple[float, float | None]:
        """Its first progress: it is inside the function."""
        return self._bench.progress_of(self.task_id).get(timeout=LIMIT_S)

    def pid(self) -> int:
        assert self.handle.pid is not None
        return self.handle.pid


class Bench:
    """A pool and the calls made on it."""

    def __init__(self, max_workers: int, *, idle_stop_s: float = 60.0) -> None:
        self._count = 0
        self._lock = threading.Lock()
        self._progress: dict[str, Queue[tuple[float, float | None]]] = {}
        self.pool = WorkerPool(
            max_workers, idle_stop_s=idle_stop_s, on_progress=self._on_progress, on_line=lambda *_line: None
        )

    def _on_progress(self, task_id: str, _attempt: int, done: float, total: float | None) -> None:
        self.progress_of(task_id).put((done, total))

    def progress_of(self, task_id: str) -> Queue[tuple[float, float | None]]:
        with self._lock:
            return self._progress.setdefault(task_id, Queue())

    def start(self, function: str, *args: Any, **kwargs: Any) -> Attempt:
        self._count += 1
        attempt = Attempt(self, f"task-{self._count}")
        reference = function if ":" in function else f"process_workloads:{function}"
        arguments = json.dumps({"args": args, "kwargs": kwargs})
        call = WorkerCall(
            task_id=attempt.task_id,
            attempt=1,
            reference=reference,
            arguments=arguments,
            is_async=function.endswith("_later"),
        )
        attempt.handle = self.pool.start(call, attempt.outcomes.put)
        return attempt

    def run(self, function: str, *args: Any, **kwargs: Any) -> Outcome:
        return self.start(function, *args, **kwargs).outcome()

    def value(self, function: str, *args: Any) -> Any:
        outcome = self.run(function, *args)
        assert isinstance(outcome, Returned), outcome
        assert outcome.text is not None
        return json.loads(outcome.text)


def ends(pid: int) -> bool:
    """True once the process has ended; False if it lives on for too long."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], LIMIT_S)[0])
    finally:
        os.close(watch)


@pytest.fixture(autouse=True, scope="module")
def importable_workloads() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        yield


@pytest.fixture(scope="module")
def shared(importable_workloads: None) -> Iterator[Bench]:
    """Serves most tests, in any order: whatever one does to its workers, the next must find a sound pool."""
    bench = Bench(2)
    yield bench
    bench.pool.close()


@pytest.fixture
def bench(importable_workloads: None) -> Iterator[Bench]:
    """One of the test's own, without a worker yet."""
    bench = Bench(2)
    yield bench
    bench.pool.close()


# --- what comes back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "text"),
    [
        pytest.param(("add", 1, 2), "3", id="a plain function"),
        pytest.param(("add_later", 1, 2), "4", id="a coroutine function, with its current task"),
        pytest.param(("nothing",), "null", id="no result"),
        pytest.param(("lock",), None, id="a result that is neither JSON nor picklable"),
        pytest.param(("text_of_length", MAX_RESULT_BYTES - 2), f'"{"x" * (MAX_RESULT_BYTES - 2)}"', id="64 kB"),
        pytest.param(("text_of_length", MAX_RESULT_BYTES - 1), None, id="more than 64 kB"),
        pytest.param(("text_of_length", 50_000_000), None, id="50 MB"),
        pytest.param(("os:getcwd",), json.dumps(str(Path.cwd())), id="a function of the standard library"),
    ],
)
def test_a_result_comes_back_as_json_or_not_at_all(shared: Bench, call: tuple[Any, ...], text: str | None) -> None:
    assert shared.run(*call) == Returned(None, text)


def test_keyword_arguments_arrive(shared: Bench) -> None:
    assert shared.run("add", 1, right=5) == Returned(None, "6")


@pytest.mark.parametrize(
    ("call", "name", "text"),
    [
        pytest.param(("fail", "unpicklable"), "StubbornError", "bytes cut", id="an error that cannot be pickled"),
        pytest.param(("fail", "exit"), "SystemExit", "enough", id="sys.exit"),
        pytest.param(("fail", "interrupt"), "KeyboardInterrupt", "KeyboardInterrupt", id="KeyboardInterrupt"),
        pytest.param(("nowhere:function",), "ModuleNotFoundError", "No module named 'nowhere'", id="no such module"),
        pytest.param(("os:nowhere",), "AttributeError", "no attribute 'nowhere'", id="no such function"),
        pytest.param(("add", "one", "argument", "too", "many"), "TypeError", "positional", id="wrong arguments"),
    ],
)
def test_an_error_comes_back_as_text_and_names(shared: Bench, call: tuple[Any, ...], name: str, text: str) -> None:
    outcome = shared.run(*call)
    assert isinstance(outcome, Raised)
    assert name in outcome.names
    assert text in outcome.error
    assert len(outcome.error.encode()) <= MAX_ERROR_BYTES


def test_a_function_that_ends_itself_as_stopped_is_stopped(shared: Bench) -> None:
    assert shared.run("fail", "stopped") == Stopped("timeout")


def test_log_lines_and_prints_do_no_harm(shared: Bench) -> None:
    assert shared.value("noisy") == "said"


def test_the_function_sees_its_task(shared: Bench) -> None:
    outcomes: Queue[Outcome] = Queue()
    at = datetime(2026, 3, 1, 9, tzinfo=UTC)
    call = WorkerCall(
        task_id="seen",
        attempt=4,
        reference="process_workloads:about_me",
        arguments='{"args":[],"kwargs":{}}',
        job_id="daily",
        deadline=at,
        fire_time=None,
    )
    shared.pool.start(call, outcomes.put)
    assert outcomes.get(timeout=LIMIT_S) == Returned(None, f'["seen",4,"daily","{at.isoformat()}",null]')


# --- progress --------------------------------------------------------------------------------------------------------


def test_a_flood_of_progress_is_thinned_and_its_last_word_arrives_before_the_end(shared: Bench) -> None:
    attempt = shared.start("count_to", 20_000)
    assert attempt.outcome() == Returned(None, "null")
    told = list(shared.progress_of(attempt.task_id).queue)
    assert told[0] == (0.0, 20_000.0)
    assert told[-1] == (20_000.0, 20_000.0)
    assert told == sorted(told)
    assert len(told) < 50


def test_the_newest_progress_is_told_while_the_function_is_silent(shared: Bench, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    attempt = shared.start("two_steps_and_a_pause", str(fifo))
    assert [attempt.begun(), attempt.begun()] == [(1.0, None), (2.0, None)]
    fifo.write_text("go on")
    assert attempt.outcome() == Returned(None, "null")


# --- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["spin", "ignore_sigterm", "hold_the_gil"])
@pytest.mark.parametrize("reason", ["timeout"])
def test_a_function_that_does_not_listen_is_stopped(shared: Bench, function: str, reason: StopReason) -> None:
    attempt = shared.start(function)
    attempt.begun()
    asked_s = time.monotonic()
    attempt.handle.stop(reason)
    assert attempt.outcome() == Stopped(reason)
    assert time.monotonic() - asked_s < 2
    assert ends(attempt.pid())


def test_grandchildren_are_killed_with_their_worker(shared: Bench) -> None:
    attempt = shared.start("with_grandchildren", "spin")
    direct, behind_a_shell = attempt.begun()
    assert behind_a_shell is not None
    attempt.handle.stop("cancelled")
    assert attempt.outcome() == Stopped("cancelled")
    assert all(map(ends, (attempt.pid(), int(direct), int(behind_a_shell))))


def test_what_a_crashed_worker_leaves_behind_is_killed(shared: Bench) -> None:
    attempt = shared.start("with_grandchildren", "spin")
    direct, behind_a_shell = attempt.begun()
    assert behind_a_shell is not None
    os.kill(attempt.pid(), signal.SIGKILL)
    assert isinstance(attempt.outcome(), Crashed)
    assert ends(int(direct))
    assert ends(int(behind_a_shell))


def test_a_stop_leaves_innocents_alone(shared: Bench) -> None:
    innocent, attempt = shared.start("nap", 0.5), shared.start("ignore_sigterm")
    innocent.begun()
    attempt.begun()
    attempt.handle.stop("timeout")
    assert attempt.outcome() == Stopped("timeout")
    assert innocent.outcome() == Returned(None, str(innocent.pid()))


def test_the_first_reason_counts_and_done_is_called_once(shared: Bench) -> None:
    attempt = shared.start("spin")
    attempt.begun()
    attempt.handle.stop("timeout")
    attempt.handle.stop("cancelled")
    assert attempt.outcome() == Stopped("timeout")
    attempt.handle.stop("shutdown")
    shared.run("nothing")
    assert attempt.outcomes.empty()


def test_a_call_stopped_before_it_has_a_worker_never_runs(tmp_path: Path, importable_workloads: None) -> None:
    bench = Bench(1)
    busy = bench.start("spin")
    busy.begun()
    waiting = bench.start("os:mkdir", str(tmp_path / "made"))
    waiting.handle.stop("cancelled")
    assert waiting.outcome() == Stopped("cancelled")
    assert waiting.handle.pid is None
    busy.handle.stop("cancelled")
    assert busy.outcome() == Stopped("cancelled")
    bench.run("nothing")
    bench.pool.close()
    assert not (tmp_path / "made").exists()
    assert waiting.outcomes.empty()


def test_a_worker_that_is_still_starting_is_stopped(bench: Bench) -> None:
    attempt = bench.start("spin")
    attempt.handle.stop("cancelled")
    assert attempt.outcome() == Stopped("cancelled")
    if attempt.handle.pid is not None:
        assert ends(attempt.pid())


def test_an_outcome_that_comes_together_with_a_stop_is_told_once(shared: Bench) -> None:
    shared.run("nothing")
    for _ in range(4):
        attempt = shared.start("nap", 0)
        attempt.begun()
        attempt.handle.stop("cancelled")
        outcome = attempt.outcome()
        assert isinstance(outcome, Returned) or outcome == Stopped("cancelled")
        shared.run("nothing")
        assert attempt.outcomes.empty()


def test_a_stop_after_the_end_changes_nothing(shared: Bench) -> None:
    attempt = shared.start("pid")
    assert attempt.outcome() == Returned(None, str(attempt.pid()))
    attempt.handle.stop("cancelled")
    assert shared.value("add", 1, 1) == 2
    assert attempt.outcomes.empty()


# --- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "text"),
    [("0", "exit code 0"), ("3", "exit code 3"), ("SIGSEGV", "SIGSEGV"), ("SIGKILL", "SIGKILL")],
)
def test_a_dead_worker_says_how_it_died(shared: Bench, how: str, text: str) -> None:
    attempt = shared.start("die", how)
    outcome = attempt.outcome()
    assert isinstance(outcome, Crashed)
    assert text in outcome.error
    assert str(attempt.pid()) in outcome.error


def test_a_kill_from_outside_fails_one_task_only(shared: Bench) -> None:
    innocent, victim = shared.start("nap", 0.5), shared.start("spin")
    innocent.begun()
    victim.begun()
    os.kill(victim.pid(), signal.SIGKILL)
    assert isinstance(victim.outcome(), Crashed)
    assert isinstance(shared.run("pid"), Returned)
    assert innocent.outcome() == Returned(None, str(innocent.pid()))


def test_an_idle_worker_that_is_killed_is_replaced(shared: Bench) -> None:
    pid = shared.value("pid")
    os.kill(pid, signal.SIGKILL)
    assert ends(pid)
    outcomes = [shared.run("pid") for _ in range(2)]  # the first may meet the dying one
    assert isinstance(outcomes[-1], Returned)


def test_every_one_of_many_crashing_calls_has_its_end(shared: Bench) -> None:
    attempts = [shared.start("die", "0" if number % 2 else "SIGKILL") for number in range(8)]
    assert all(isinstance(attempt.outcome(), Crashed) for attempt in attempts)
    assert shared.value("add", 1, 1) == 2


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as a server with a thousand clients has."""
    limits = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2048)), hard))
    with ExitStack() as held:
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        for _ in range(1100):
            held.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        yield


def test_a_channel_with_a_number_above_a_thousand_is_waited_for(importable_workloads: None, many_files: None) -> None:
    """A worker that logs a lot has filled it when another outcome is to be told behind its lines."""
    goes_on, outcomes = threading.Event(), Queue[Outcome]()

    def hear(*_line: object) -> None:
        goes_on.wait(LIMIT_S)

    pool = WorkerPool(1, on_progress=lambda *_progress: None, on_line=hear)
    arguments = json.dumps({"args": [1], "kwargs": {}})
    call = WorkerCall(task_id="a", attempt=1, reference="process_workloads:add", arguments=arguments)
    pool.start(call, outcomes.put)
    assert outcomes.get(timeout=LIMIT_S) == Returned(None, "1")
    assert pool._channel.fileno() > 1023
    for datagram in (["log", "a", 1, 0.0, "INFO", "line"], ["", "", 0]):  # the last gap as well
        with suppress(BlockingIOError):
            while True:
                pool._channel.send(json.dumps(datagram).encode())
    pool.start(call, outcomes.put)
    eventually(lambda: bool(pool._behind))
    goes_on.set()
    assert outcomes.get(timeout=LIMIT_S) == Returned(None, "1")
    pool.close()


def test_a_machine_without_room_for_a_process_is_an_error_to_retry(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(util, "spawnv_passfds", refuse)
        outcome = bench.run("nothing")
    assert isinstance(outcome, Raised)
    assert "Resource temporarily unavailable" in outcome.error
    assert bench.run("nothing") == Returned(None, "null")


# --- the life of workers ---------------------------------------------------------------------------------------------


def test_fifty_calls_at_once_share_two_workers(shared: Bench) -> None:
    attempts = [shared.start("pid") for _ in range(50)]
    served = Counter(attempt.outcome() for attempt in attempts)
    assert len(served) <= 2
    assert served.total() == 50
    assert all(isinstance(outcome, Returned) for outcome in served)


def test_a_worker_without_work_is_stopped_and_a_new_one_serves(importable_workloads: None) -> None:
    bench = Bench(2, idle_stop_s=0.05)
    first = bench.value("pid")
    assert ends(first)
    assert bench.value("pid") != first
    bench.pool.close()


def test_a_worker_with_work_is_not_idle(importable_workloads: None) -> None:
    bench = Bench(1, idle_stop_s=0.05)
    attempt = bench.start("nap", 0.5)
    assert attempt.outcome() == Returned(None, str(attempt.pid()))
    bench.pool.close()


def test_a_worker_keeps_the_umask_and_never_sees_the_main_module(importable_workloads: None) -> None:
    old = os.umask(0o077)
    try:
        bench = Bench(1)
        assert bench.value("umask") == 0o077
        assert bench.value("main_module") is None
        bench.pool.close()
    finally:
        os.umask(old)


def test_signals_to_everybody_are_left_to_the_parent(shared: Bench) -> None:
    assert shared.value("signals_are_left_to_the_parent") == [-signal.SIGINT, -signal.SIGTERM, -signal.SIGTERM]


def test_signals_to_everybody_do_not_end_a_worker_that_is_still_starting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = WorkerProcess.start

    def start_under_fire(self: WorkerProcess) -> None:
        start(self)
        assert self.pid is not None
        os.kill(self.pid, signal.SIGINT)
        os.kill(self.pid, signal.SIGTERM)

    monkeypatch.setattr(WorkerProcess, "start", start_under_fire)
    assert bench.run("nothing") == Returned(None, "null")


def test_a_done_that_raises_harms_nobody_else(shared: Bench) -> None:
    called = threading.Event()

    def done(_outcome: Outcome) -> None:
        called.set()
        raise RuntimeError("a broken listener")

    arguments = '{"args":[],"kwargs":{}}'
    shared.pool.start(WorkerCall(task_id="x", attempt=1, reference="os:getpid", arguments=arguments), done)
    assert called.wait(LIMIT_S)
    assert shared.value("add", 1, 1) == 2


# --- close -----------------------------------------------------------------------------------------------------------


def test_close_kills_what_runs_and_ends_what_waits(importable_workloads: None) -> None:
    bench = Bench(1)
    running, waiting = bench.start("with_grandchildren", "spin"), bench.start("nothing")
    direct, _ = running.begun()
    bench.pool.close()
    assert running.outcome() == Stopped("shutdown")
    assert waiting.outcome() == Stopped("shutdown")
    assert ends(running.pid())
    assert ends(int(direct))


def test_close_may_be_called_again_by_anybody_and_nothing_starts_after_it(importable_workloads: None) -> None:
    bench = Bench(1)
    running = bench.start("spin")
    running.begun()
    another = threading.Thread(target=bench.pool.close)
    another.start()
    bench.pool.close()
    another.join(LIMIT_S)
    assert not another.is_alive()
    assert running.outcome() == Stopped("shutdown")
    bench.pool.close()
    with pytest.raises(QueueStoppedError):
        bench.start("nothing")


def test_close_leaves_no_thread_and_no_descriptor(importable_workloads: None) -> None:
    def held() -> tuple[set[threading.Thread], int]:
        gc.collect()
        return set(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))

    warm = Bench(1)  # multiprocessing's own resource tracker stays
    warm.run("nothing")
    warm.pool.close()
    before = held()
    bench = Bench(2)
    bench.run("nothing")
    bench.run("die", "1")
    bench.start("spin").handle.stop("cancelled")
    bench.pool.close()
    threads, files = held()
    assert threads <= before[0]  # those of an earlier test may have ended meanwhile
    assert files <= before[1]


def test_a_pool_that_was_never_used_starts_and_stops_nothing() -> None:
    threads = set(threading.enumerate())
    Bench(4).pool.close()
    assert set(threading.enumerate()) <= threads


def test_without_pebble_a_call_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pebble", None)
    with pytest.raises(FunctionRefusedError, match=r"pip install 'atlas-scheduler\[process\]'"):
        Bench(1).start("nothing")


# --- whole programs --------------------------------------------------------------------------------------------------

SCRIPT = """
    import json, queue, sys
    print("the body", flush=True)
    from atlas.scheduler.executors.process.pool import WorkerPool
    from atlas.scheduler.executors.process.child import WorkerCall

    outcomes, told = queue.Queue(), queue.Queue()
    pool = WorkerPool(1, on_progress=lambda *progress: told.put(progress), on_line=lambda *line: None)
    arguments = json.dumps({"args": sys.argv[2:], "kwargs": {}})
    call = WorkerCall(task_id="1", attempt=1, reference=sys.argv[1], arguments=arguments)
    handle = pool.start(call, outcomes.put)
"""


StartScript = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start_script(tmp_path: Path) -> Iterator[StartScript]:
    """Start `SCRIPT` with an ending, in a process of its own that the test outlives."""
    started: list[subprocess.Popen[str]] = []

    def start(ending: str, *arguments: str) -> subprocess.Popen[str]:
        script = tmp_path / "unguarded.py"
        script.write_text(textwrap.dedent(SCRIPT) + ending)
        started.append(
            subprocess.Popen(
                [sys.executable, str(script), *arguments],
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), *filter(None, sys.path)])},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for script in started:
        script.kill()
        script.communicate()


TELL_PIDS = "print(*told.get(timeout=20)[2:], handle.pid, flush=True)\n"


@pytest.mark.parametrize("ending", ["pool.close()", "pass"], ids=["closed", "not closed"])
def test_an_unguarded_script_runs_its_body_once_and_leaves_nobody(start_script: StartScript, ending: str) -> None:
    script = start_script(f"print(outcomes.get(timeout=20).text, flush=True)\n{ending}", "process_workloads:pid")
    out, err = script.communicate(timeout=LIMIT_S)
    assert err == ""
    body, pid = out.splitlines()
    assert body == "the body"
    assert ends(int(pid))


def test_a_script_that_ends_in_the_middle_of_an_attempt_leaves_nobody(start_script: StartScript) -> None:
    script = start_script(TELL_PIDS, "process_workloads:with_grandchildren", "spin")
    out, err = script.communicate(timeout=LIMIT_S)
    assert err == ""
    pids = [int(float(pid)) for pid in out.splitlines()[1].split()]
    assert len(pids) == 3
    assert all(map(ends, pids))


def test_at_the_end_of_the_interpreter_the_workers_are_gone_before_others_clean_up(start_script: StartScript) -> None:
    """Pebble ends its pools there, and multiprocessing its semaphores, whatever other threads do with them."""
    at_exit = "import atexit; atexit._run_exitfuncs(); print(pool._keeper.is_alive(), flush=True)\n"
    out, err = start_script(TELL_PIDS + at_exit, "process_workloads:with_grandchildren", "spin").communicate(
        timeout=LIMIT_S
    )
    assert err == ""
    assert out.splitlines()[2:] == ["False"]


@pytest.mark.parametrize("then", ["spin", "hold_the_gil"])
def test_a_kill_of_the_parent_leaves_nobody(start_script: StartScript, then: str) -> None:
    script = start_script(f"{TELL_PIDS}outcomes.get()", "process_workloads:with_grandchildren", then)
    assert script.stdout is not None
    assert script.stdout.readline() == "the body\n"
    pids = [int(float(pid)) for pid in script.stdout.readline().split()]
    assert len(pids) == 3
    script.kill()
    assert all(map(ends, pids))


def test_where_the_kernel_does_not_watch_the_parent_a_thread_does() -> None:
    code = """
        import os, subprocess, threading
        from atlas.scheduler.executors.process.child import _kill_group_after
        os.setsid()
        print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
        threading.Thread(target=_kill_group_after, args=(0,)).start()
        while True: pass
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), *filter(None, sys.path)])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    child.stdin.close()
    assert child.wait(LIMIT_S) == -signal.SIGKILL
    assert ends(grandchild)
    child.stdout.close()
