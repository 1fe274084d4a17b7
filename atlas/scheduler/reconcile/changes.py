"""What is different between two definitions of a job, field by field, in words; pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from atlas.scheduler.definition import BUILT_IN
from atlas.scheduler.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from atlas.scheduler.definition import JobDefinition

Language = Literal["en", "zh"]
MAX_SHOWN: Final = 60
"""Characters of a value in words."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is different.

    Attributes:
        field: Its name as the jobs file has it.
        before: The old value, as JSON values.
        after: The new one.
        en: In English: ``timeout 3m → 4m``.
        zh: In Chinese.
    """

    field: str
    before: Any
    after: Any
    en: str
    zh: str

    def words(self, language: Language) -> str:
        """In one of the two languages."""
        return self.en if language == "en" else self.zh


def _duration(value: Any) -> str | None:
    return None if value is None else format_duration(float(value))


_LABELS: Final[dict[str, tuple[str, str]]] = {
    "function": ("function", "函数"),
    "arguments": ("arguments", "参数"),
    "name": ("name", "名称"),
    "description": ("description", "说明"),
    "tags": ("tags", "标签"),
    "owner": ("owner", "负责人"),
    "runbook": ("runbook", "处理手册"),
    "executor": ("executor", "执行器"),
    "priority": ("priority", "优先级"),
    "max_retries": ("retries", "重试次数"),
    "retry_delay": ("retry delay", "重试间隔"),
    "retry_backoff": ("retry backoff", "重试间隔倍数"),
    "retry_max_delay": ("longest retry delay", "最长重试间隔"),
    "retry_jitter": ("retry jitter", "重试抖动"),
    "retry_on": ("retried errors", "可重试的错误"),
    "timeout": ("timeout", "超时"),
    "on_crash": ("after a crash", "崩溃之后"),
    "overlap": ("overlap", "重叠"),
    "max_instances": ("most at once", "最多同时"),
    "catchup": ("catch-up", "补跑"),
    "catchup_window": ("catch-up window", "补跑窗口"),
    "catchup_limit": ("catch-up limit", "补跑上限"),
    "keep_days": ("days kept", "保留天数"),
    "keep_tasks": ("tasks kept", "保留任务数"),
    "log_max_bytes": ("longest log", "日志上限"),
    "volatile": ("volatile", "易失"),
    "source": ("belongs to", "来源"),
    "value_from": ("values come from", "取值来源"),
}
_DURATIONS: Final = frozenset({"retry_delay", "retry_max_delay", "timeout", "catchup_window"})


def _fields(one: JobDefinition) -> dict[str, Any]:
    """Every field but id and schedule by the name the file has for it, as JSON values."""
    return {
        "function": one.function,
        "arguments": json.loads(one.arguments),
        "name": one.title,
        "description": one.description,
        "tags": list(one.tags),
        "owner": one.owner,
        "runbook": one.runbook,
        **one.policies.values(),
        "volatile": one.volatile,
        "source": one.source.value,
        "value_from": dict(one.policies.value_from),
    }


def differences(old: JobDefinition, new: JobDefinition) -> tuple[Difference, ...]:
    """What is different, the schedule first; empty exactly if both are the same.

    Where only the place that a value comes from changed, that is told; beside changed values it goes without saying.
    """
    found = []
    if old.enabled != new.enabled:
        words = ("switched on", "启用") if new.enabled else ("switched off", "停用")
        found.append(Difference("enabled", old.enabled, new.enabled, *words))
    if old.schedule != new.schedule:
        found.append(_schedule(old, new))
    before, after = _fields(old), _fields(new)
    changed = [name for name in after if before[name] != after[name]]
    if (found or len(changed) > 1) and "value_from" in changed:
        changed.remove("value_from")
    for name in changed:
        show: Callable[[Any], str | None] = _duration if name in _DURATIONS else _shown
        en, zh = _LABELS[name]
        was, now = before[name], after[name]
        if name == "value_from":
            names = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
            was, now = ({key: values.get(key, BUILT_IN) for key in names} for values in (was, now))
        first, last = show(was), show(now)
        found.append(
            Difference(
                name, was, now, f"{en} {first or 'none'} → {last or 'none'}", f"{zh} {first or '无'} → {last or '无'}"
            )
        )
    return tuple(found)


def changed_jobs(
    old: Mapping[str, JobDefinition], new: Mapping[str, JobDefinition]
) -> list[tuple[Literal["+", "-", "~"], str, str]]:
    """What two files say differently: new, gone or changed, the job's id, and in English words what."""
    found: list[tuple[Literal["+", "-", "~"], str, str]] = []
    for job_id in sorted(old.keys() | new.keys()):
        before, after = old.get(job_id), new.get(job_id)
        if before is None and after is not None:
            found.append(("+", job_id, after.schedule.describe("en")))
        elif after is None and before is not None:
            found.append(("-", job_id, before.schedule.describe("en")))
        elif before is not None and after is not None and (told := differences(before, after)):
            found.append(("~", job_id, ", ".join(one.en for one in told)))
    return found


def _schedule(old: JobDefinition, new: JobDefinition) -> Difference:
    words = []
    for language in ("en", "zh"):
        first, last = old.schedule.describe(language), new.schedule.describe(language)
        zones = old.schedule.timezone, new.schedule.timezone
        if first == last or zones[0] != zones[1]:
            first, last = f"{first} ({zones[0]})", f"{last} ({zones[1]})"
        if first == last:  # another way to say the same, or dates within a calendar
            first = last = ""
        words.append(f"{first} → {last}" if first else "")
    en, zh = words
    if not en:
        en, zh = "the schedule's text or calendar", "计划的写法或日历"
    return Difference("schedule", old.schedule.to_json(), new.schedule.to_json(), en, zh)


def _shown(value: Any) -> str | None:
    if value is None or value in ("", [], {}):
        return None
    if isinstance(value, float):
        return f"{value:g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"
