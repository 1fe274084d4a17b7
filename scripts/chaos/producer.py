"""The producer: a process that submits tasks of every kind, cancels some, and notes what was acknowledged."""

from __future__ import annotations

import argparse
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

from atlas.scheduler.client import AtlasClient, SyncAtlasClient
from atlas.scheduler.errors import AtlasError
from atlas.scheduler.retry import RetryPolicy
from scripts.chaos import broken, ledger

THREADS: Final = 8
FUNCTIONS: Final = "scripts.chaos.functions:"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of task.

    Attributes:
        function: What it runs.
        weight: Its share.
        options: Of `submit`.
        seconds: Range its argument is drawn from; None: it takes none.
        retries: Retries it is allowed.
        cancelled: True if it is cancelled a moment after it was accepted.
        ends: The status such a task reaches if nobody else's crash ends it.
    """

    function: str
    weight: int
    options: dict[str, Any] = field(default_factory=dict)
    seconds: tuple[float, float] | None = None
    retries: int = 3
    cancelled: bool = False
    ends: str = "SUCCESS"


KINDS: Final = {
    "instant": Kind("instant", 280),
    "instant-async": Kind("instant_async", 280),
    "instant-process": Kind("instant", 30, {"executor": "process"}),
    "slow": Kind("slow", 70, seconds=(0.1, 0.6)),
    "slow-async": Kind("slow_async", 90, seconds=(0.1, 1.0)),
    "slow-process": Kind("slow", 10, {"executor": "process"}, seconds=(0.1, 0.6)),
    "flaky": Kind("flaky", 80),
    "hang": Kind("slow", 15, {"timeout": 0.5}, seconds=(60, 60), retries=1, ends="TIMEOUT"),
    "hang-async": Kind("slow_async", 25, {"timeout": 0.5}, seconds=(60, 60), retries=1, ends="TIMEOUT"),
    "hang-process": Kind("burn", 8, {"timeout": 0.5, "executor": "process"}, retries=0, ends="TIMEOUT"),
    "killer": Kind("kill_worker", 4, {"executor": "process"}, ends="FAILED"),
    "stubborn": Kind("stubborn", 6, {"timeout": 0.5}, seconds=(2.0, 2.5), retries=0, ends="TIMEOUT"),
    "cancelled": Kind("slow", 40, seconds=(30, 30), cancelled=True, ends="CANCELLED"),
    "cancelled-async": Kind("slow_async", 40, seconds=(30, 30), cancelled=True, ends="CANCELLED"),
    "once": Kind("instant", 40, {"on_crash": "fail"}, retries=0),
}


class Producer:
    """Submits at a steady rate until told to stop.

    Args:
        client: The store under test.
        rate: Tasks a second over all threads.
        seed: Makes the sequence of kinds.
    """

    def __init__(self, client: SyncAtlasClient, rate: float, seed: int) -> None:
        """Prepare."""
        self._client, self._pause_s, self._seed = client, THREADS / rate, seed
        self._over = threading.Event()

    def run(self) -> None:
        """Submit with several threads; returns once all have ended."""
        threads = [threading.Thread(target=self._produce, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def stop(self, *_signal: object) -> None:
        """Let every thread end after its present call."""
        self._over.set()

    def _produce(self, number: int) -> None:
        draw = random.Random(f"{self._seed}:{number}")  # noqa: S311 - a reproducible draw, no secret
        names, weights = list(KINDS), [kind.weight for kind in KINDS.values()]
        due = time.monotonic() + self._pause_s * number / THREADS
        while not self._over.wait(max(0.0, due - time.monotonic())):
            name = draw.choices(names, weights)[0]
            self._submit(name, KINDS[name], draw)
            due = max(due + self._pause_s, time.monotonic() - 5.0)  # a store that was away is not flooded afterwards

    def _submit(self, name: str, kind: Kind, draw: random.Random) -> None:
        arguments = [] if kind.seconds is None else [round(draw.uniform(*kind.seconds), 3)]
        try:
            task_id = self._client.submit(
                FUNCTIONS + kind.function,
                *arguments,
                name=name,
                priority=draw.choice(["urgent", "high", "normal", "low"]),
                retry=RetryPolicy(max_retries=kind.retries, delay_s=0.2, max_delay_s=1.0),
                **kind.options,
            )
        except AtlasError as error:
            ledger.write(ledger.ACCEPTED, what="refused", kind=name, error=str(error))
            return
        ledger.write(ledger.ACCEPTED, what="accepted", task=task_id, kind=name, retries=kind.retries)
        if kind.cancelled and not self._over.wait(draw.uniform(0.0, 1.0)):
            self._cancel(task_id)

    def _cancel(self, task_id: str) -> None:
        try:
            heard = self._client.cancel(task_id)
        except AtlasError as error:
            ledger.write(ledger.ACCEPTED, what="refused", task=task_id, error=str(error))
        else:
            ledger.write(ledger.ACCEPTED, what="cancelled", task=task_id, heard=heard)


def main() -> None:
    """Produce until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--break", dest="broken")
    args = parser.parse_args()
    broken.apply(args.broken)
    with AtlasClient(args.database).sync as client:
        producer = Producer(client, args.rate, args.seed)
        signal.signal(signal.SIGTERM, producer.stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        producer.run()


if __name__ == "__main__":
    main()
