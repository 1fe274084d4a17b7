"""The process that is measured: the real scheduler with its pages. Lines of orders come in, lines of JSON go out."""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from loguru import logger

from atlas.heap import keep_heap_small
from atlas.pauses import collect_rarely, shorten_pauses
from atlas.scheduler.registry import register
from atlas.service import AtlasScheduler
from atlas.web.server import WebServer
from scripts.pages_load.history import settings_in

_begun: dict[int, float] = {}


@register("nothing")
def nothing() -> None:
    """What the jobs do."""


@register("told")
def told(number: int) -> None:
    """Notes when it begins."""
    _begun[number] = time.monotonic()


def load(atlas: AtlasScheduler, per_s: float, seconds: float) -> dict[str, Any]:
    """Submit ``per_s`` tasks a second; returns each one's delay from the moment it was to be submitted to its start."""
    _begun.clear()
    due: list[float] = []
    begin = time.monotonic()
    total = int(per_s * seconds)
    with ThreadPoolExecutor(32) as pool:
        for number in range(total):
            due.append(begin + number / per_s)
            time.sleep(max(0.0, due[-1] - time.monotonic()))
            pool.submit(atlas.queue.sync.submit, "told", number)
    end = time.monotonic() + 20.0
    while len(_begun) < total and time.monotonic() < end:
        time.sleep(0.01)
    return {"delays_s": [_begun[number] - due[number] for number in range(total) if number in _begun], "asked": total}


def cpu() -> dict[str, float]:
    """Seconds of CPU: of the threads that answer, and of all."""
    found = {"pages": 0.0, "all": time.process_time()}
    for thread in threading.enumerate():
        if thread.ident is not None and (thread.name == "atlas-web-server" or thread.name.startswith("atlas-web_")):
            found["pages"] += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return found


def main(folder: str) -> None:
    """Serve until the input ends."""
    keep_heap_small()
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    with AtlasScheduler.from_settings(settings_in(Path(folder))).in_thread() as atlas:
        server = WebServer(atlas).start()
        collect_rarely()
        shorten_pauses(atlas)
        print(json.dumps({"address": server.address}), flush=True)
        try:
            for line in sys.stdin:
                per_s, seconds = (float(part) for part in line.split())
                print(json.dumps(load(atlas, per_s, seconds) if per_s else cpu()), flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    main(sys.argv[1])
