"""No English sentence on Chinese pages: every page, with each kind of trouble there is."""

from __future__ import annotations

import json
import re
import warnings
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final

import pytest

from atlas.scheduler.context import current_task
from atlas.scheduler.errors import AtlasError, ConfigError
from atlas.scheduler.lease_facts import config_said
from atlas.scheduler.registry import register
from atlas.scheduler.store.leases import Lease
from atlas.scheduler.task import TaskStatus
from atlas.service import AtlasScheduler
from atlas.web.app import create_app
from atlas.web.words.speech import Speech
from tests import seeded
from tests.test_chinese import english_in

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DATA_CLASSES: Final = {"mono", "tb", "log", "diff", "json", "lib"}
"""What stands in these is code, a name or somebody's own text."""
_DATA_TAGS: Final = {"code", "pre", "script", "style", "textarea", "option", "kbd"}
_VOID: Final = {"br", "input", "img", "meta", "link", "wbr", "use"}
_PAGES: Final = (
    *("/?range=7d", "/?range=30d", "/jobs/出错?range=7d", "/jobs/出错?range=30d"),
    *("/", "/?sort=name", "/?sort=next", "/jobs", "/jobs?state=off", "/jobs?q=nothing", "/tasks", "/tasks?q=nothing"),
    *("/queue", "/config", "/config?edit=1", "/config?revision=1", "/system", "/find", "/find?q=o", "/help"),
    *("/ask/several?do=pause&all=1", "/ask/several?do=resume&all=1", "/ask/several?do=run"),
    *(f"/ask/several?do={do}&job:出错=1&job:暂停=1&job:拖延=1&job:nope=1" for do in ("run", "pause", "resume")),
    *("/ask/submit", "/nowhere", "/jobs/nope", "/tasks/nope", "/ask/run?job=nope"),
)
_NAMES: Final = re.compile(r"Atlas Scheduler \S+|Atlas \S+ Python \S+ Linux|Content Security Policy")


class Texts(HTMLParser):
    """Collects what a reader reads or hears: texts, labels, titles, hints."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[tuple[str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        classes = set((given.get("class") or "").split())
        is_data = tag in _DATA_TAGS or bool(classes & _DATA_CLASSES) or given.get("lang") == "en"
        inside = is_data or bool(self._open and self._open[-1][1])
        if tag not in _VOID:
            self._open.append((tag, inside))
        if not inside:
            self.found += [str(given[one]) for one in ("title", "aria-label", "placeholder", "alt") if given.get(one)]

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip() and not (self._open and self._open[-1][1]):
            self.found.append(" ".join(data.split()))


def english_on(html: str) -> list[str]:
    """The English sentences of a page."""
    texts = Texts()
    texts.feed(html)
    assert len(texts.found) > 4, html
    return [one for one in texts.found if english_in(_NAMES.sub("", one))]


@register("出错")
def goes_wrong() -> None:
    raise RuntimeError("不行")


@register("拖延")
def lingers() -> None:
    seeded.HOLD.wait(60)
    current_task().check()


def jobs() -> dict[str, object]:
    each = {"cron_expression": "@hourly", "function": "出错", "max_retries": 0}
    return {
        "出错": {**each, "name": "出错的作业", "description": "每次都出错"},
        "超时": {**each, "function": "拖延", "timeout": 0.05},
        "重试": {**each, "max_retries": 3, "retry_delay": 600},
        "缺少": {**each, "function": "nowhere"},
        "停用": {**each, "enabled": False},
        "暂停": {**each, "overlap": "queue"},
        "拖延": {**each, "function": "拖延", "timeout": 600},
        "过去": {"function": "出错", "triggers": [{"type": "date", "at": "2001-01-01T00:00"}]},
        "一": {**each, "max_instances": 2},
        "二": {"cron_expression": ["0 9 * * 1-5", "30 10 1,15 * *"], "function": "出错", "spread": "5m"},
        "三": {"function": "出错", "triggers": [{"type": "interval", "every": "7m"}], "end_at": "2099-01-01T00:00"},
    }


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AtlasScheduler, TestClient, Path]]:
    seeded.HOLD.clear()
    settings = seeded.bare(tmp_path_factory.mktemp("chinese"), jobs())
    with AtlasScheduler.from_settings(settings).in_thread() as atlas:
        for name in ("出错", "超时"):
            with pytest.raises(AtlasError):
                atlas.queue.sync.get_task_result(atlas.cron.sync.run_job_now(name, by="梅"), timeout=20)
        atlas.cron.sync.run_job_now("重试", by="梅")
        atlas.cron.sync.run_job_now("拖延", by="梅")
        atlas.cron.sync.pause_job("暂停", reason="假期", by="梅")
        waiting = [atlas.queue.sync.submit("拖延", priority="LOW") for _ in range(9)]
        atlas.queue.cancel_task(waiting[-1], by="梅")
        headers = {"accept-language": "zh-CN", "origin": "http://127.0.0.1"}
        try:
            yield (
                atlas,
                TestClient(create_app(atlas), base_url="http://127.0.0.1", headers=headers),
                settings.persistence.cron_config,
            )
        finally:
            seeded.HOLD.set()


def test_no_page_holds_an_english_sentence(client: tuple[AtlasScheduler, TestClient, Path]) -> None:
    atlas, web, file = client
    addresses = [*_PAGES, *(f"/jobs/{name}{rest}" for name in jobs() for rest in ("", "?only=skips", "?only=bad"))]
    addresses += [f"/ask/{what}?job={name}" for name in ("出错", "拖延", "暂停") for what in ("run", "pause", "resume")]
    for status in TaskStatus:
        for task in atlas.status.get_tasks(status=status, limit=1):
            addresses += [f"/tasks/{task.id}", f"/ask/cancel?task={task.id}", f"/ask/retry?task={task.id}"]
    good = file.read_text(encoding="utf-8")
    found = {address: english_on(web.get(address).text) for address in addresses}
    for draft in (good.replace("@hourly", "61 * * * *", 2), good[:-3], good.replace("@hourly", "@daily", 1), "{}"):
        found[f"/config {draft[-20:]}"] = english_on(web.post("/config", data={"text": draft}).text)
    for path, form in (
        ("/act/run", {"job": "出错", "kwargs": "{"}),
        ("/act/run", {"job": "nope"}),
        ("/act/run", {"job": "拖延"}),
        ("/act/run", {"job": "出错", "args": "[1, 2]"}),
        ("/act/pause", {"job": "出错", "until": "soon"}),
        ("/act/resume", {"job": "出错"}),
        ("/act/several", {"do": "run", "job:出错": "1", "job:拖延": "1", "job:nope": "1"}),
        ("/act/several", {"do": "pause"}),
        ("/act/several", {"do": "away", "job:出错": "1"}),
        ("/act/several", {"do": "pause", "job:出错": "1", "until": "2001-01-01T00:00"}),
        ("/act/several", {"do": "pause", "job:出错": "1", "job:超时": "1"}),
        ("/act/several", {"do": "resume", "all": "1"}),
        ("/act/cancel", {"task": "nope"}),
        ("/act/submit", {"function": "nope"}),
        ("/act/submit", {"function": "出错", "timeout": "soon"}),
        ("/act/submit", {"function": "出错", "max_retries": "many"}),
        ("/act/submit", {"function": "出错", "max_retries": "9999999"}),
        ("/act/submit", {"function": "出错", "priority": "soon"}),
        ("/act/apply", {"text": good.replace("@hourly", "61 * * * *")}),
        ("/act/rollback", {"number": "77"}),
        ("/act/rollback", {"number": "x"}),
    ):
        answer = web.post(path, data=form)
        assert answer.status_code == 200, (path, answer.text)
        found[f"{path} {form}"[:80]] = english_on(answer.text)
    file.write_text(good.replace("@hourly", "61 * * * *"), encoding="utf-8")
    with pytest.raises(ConfigError):
        atlas.reconciler.reload()
    found |= {f"{address}, refused": english_on(web.get(address).text) for address in ("/", "/config", "/system")}
    # what the lease tells another process of it
    now = datetime.now(UTC)
    told = json.loads(json.dumps({"config": atlas.reconciler.standing.facts()}))
    lease = Lease("them", 1, {}, now, now, now, None, told)
    said = config_said(lease, "error")
    assert said is not None
    assert said == atlas.config_error() == told["config"]["error"]
    assert english_in(Speech("zh").told(said)) == []
    del told["config"]["parts"]
    assert config_said(lease, "error") == said
    assert config_said(lease, "drift") is None
    assert {address: texts for address, texts in found.items() if texts} == {}
