"""Functions that the tests run in worker processes; a module of its own, so that a spawned process can import it."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from loguru import logger

from atlas.scheduler.context import current_task
from atlas.scheduler.errors import NoRetryError, TaskStopped


def add(left: int, right: int = 0) -> int:
    return left + right


async def add_later(left: int, right: int) -> int:
    await asyncio.sleep(0.001)
    return left + right + current_task().attempt


def adds_later(left: int, right: int) -> Any:
    return add_later(left, right)


def nothing() -> None:
    pass


class GoneError(LookupError, NoRetryError):
    pass


def hopeless() -> NoReturn:
    raise GoneError("the feed is gone")


async def hopeless_later() -> NoReturn:
    raise GoneError("the feed is gone")


def lock() -> Any:
    return threading.Lock()


def text_of_length(length: int) -> str:
    return "x" * length


class StubbornError(ValueError):
    def __init__(self) -> None:
        super().__init__("long " * 10_000, lambda: None)


def fail(kind: str) -> NoReturn:
    match kind:
        case "unpicklable":
            raise StubbornError
        case "exit":
            sys.exit("enough")
        case "interrupt":
            raise KeyboardInterrupt
        case "stopped":
            raise TaskStopped("timeout")
        case "secret":
            raise ValueError("401: https://me:pa55@feeds.example/?token=abc123 order 4711")
        case _:
            raise AssertionError(kind)


def die(how: str) -> None:
    if how.isdigit():
        os._exit(int(how))
    os.kill(os.getpid(), signal.Signals[how])


def about_me() -> list[Any]:
    task = current_task()
    times = [None if at is None else at.isoformat() for at in (task.deadline, task.fire_time)]
    return [task.task_id, task.attempt, task.job_id, *times]


def pid() -> int:
    return os.getpid()


def nap(seconds: float) -> int:
    current_task().progress(0)
    time.sleep(seconds)
    return os.getpid()


def count_to(number: int) -> None:
    for done in range(number + 1):
        current_task().progress(done, number)


def two_steps_and_a_pause(path: str) -> None:
    """Two progresses at once, then silence until the file is there."""
    current_task().progress(1)
    current_task().progress(2)
    with open(path) as fifo:  # noqa: PTH123 - a fifo: blocks until the test opens its end
        fifo.read()


def spin() -> NoReturn:
    current_task().progress(0)
    while True:
        pass


def ignore_sigterm() -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    current_task().progress(0)
    while True:
        try:
            time.sleep(600)
        except BaseException:  # noqa: BLE001 - it is meant to be stubborn
            continue


def hold_the_gil() -> None:
    current_task().progress(0)
    re.match(r"(a+)+b", "a" * 60)


def with_grandchildren(then: str) -> None:
    """Start one program directly and one behind a shell's back; tell their process ids as progress."""
    direct = subprocess.Popen(["sleep", "600"])
    shell = subprocess.check_output("sleep 600 >&2 & echo $!", shell=True)
    current_task().progress(direct.pid, int(shell))
    spin() if then == "spin" else hold_the_gil()


def signals_are_left_to_the_parent() -> list[int | None]:
    """Survive what a terminal or a service manager sends to everybody; programs and forks started here can be ended."""
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    ends: list[int | None] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        program = subprocess.Popen(["sleep", "600"])
        program.send_signal(number)
        ends.append(program.wait())
    fork = os.fork()
    if fork == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]))
    return ends


def umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def main_module() -> str | None:
    return getattr(sys.modules["__main__"], "__file__", None)


def noisy() -> str:
    import logging

    from loguru import logger

    logging.getLogger("workload").warning("a line through logging")
    logger.info("a line through loguru")
    print("a printed line")
    return "said"


def log_much(lines: int, text: str = "line") -> None:
    for number in range(lines):
        logger.info("{} {}", text, number)


def log_everywhere() -> None:
    logger.bind(source="BBC").info("by loguru\nforged")
    logging.getLogger("lib").warning("by logging, token=%s", "t0p")
    print("by print")
    print("without an end", end="")
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("with a traceback")


def log_from_a_thread() -> None:
    task = current_task()
    for line in ("{by} a thread, token=abc123", "INFO"), ("twice", "WARNING"):
        thread = threading.Thread(target=task.log, args=line)
        thread.start()
        thread.join()
    task.log("by the task")


def log_what_has_no_format() -> str:
    logging.getLogger("lib").warning("%d", "five")
    logging.getLogger("lib").warning("the next one")
    return "done"


def log_and_die() -> None:
    logger.info("the last words")
    os._exit(3)


def die_then_meet(folder: str, mine: str, other: str) -> str:
    """Kill the worker at the first attempt; at the second, wait until the other one is at its second as well."""
    if current_task().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    Path(folder, mine).touch()
    until_s = time.monotonic() + 60
    while not Path(folder, other).exists() and time.monotonic() < until_s:
        time.sleep(0.01)
    return "met" if Path(folder, other).exists() else "alone"


def stop_myself() -> None:
    """Stand still as after Ctrl-Z, or in a container that is paused."""
    os.kill(os.getpid(), signal.SIGSTOP)


def use_all_memory() -> int:
    """Ask for more memory than this process may have."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return len(bytearray(4 << 30))
