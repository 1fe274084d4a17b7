"""The four built-in functions by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas.builtin.binding import ALIASES, bind_builtins
from atlas.scheduler.registry import Registry
from atlas.settings import CollectSettings, Settings, Source
from tests.builtin.rows import Running

if TYPE_CHECKING:
    from pathlib import Path

    from atlas.scheduler.store.store import Store
    from atlas.scheduler.testing.clocks import SetClock
    from tests.feed_server import FeedServer


async def test_the_built_in_functions_work_by_name_and_by_the_documented_job_ids(
    store: Store, server: FeedServer, clock: SetClock, tmp_path: Path
) -> None:
    source = Source(name="rss", url=server.base + "/rss")
    made = Settings(collect=CollectSettings(sources=(source,), allow_hosts=("127.0.0.1",))).anchored(tmp_path)
    registry = Registry()
    bind_builtins(registry, store=store, settings=made, health_source=Running(), clock=clock)
    assert set(registry.names()) == {*ALIASES, *ALIASES.values()}
    found = {name: registry.find(name) for name in registry.names()}
    for name, alias in ALIASES.items():
        assert found[alias].call is found[name].call
        assert registry.name_of(found[alias].call) == name
    assert (await found["data_collection"].call())["new"] == 2
    assert found["system_cleanup"].call(dry_run=True) == {
        "tasks": 0,
        "fires": 0,
        "log_lines": 0,
        "audit_lines": 0,
        "revisions": 0,
        "requests": 0,
        "articles": 0,
        "reports": 0,
        "dry_run": True,
    }
    assert found["health_check"].call()["status"] == "ok"
    assert found["daily_report"].call(day="today", language="zh")["files"][0].startswith(str(tmp_path / "reports"))
    assert found["collect"].is_async
    assert found["report"].refusal([], {"days": 1})
