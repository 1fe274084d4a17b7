"""The words of a report, in English and Chinese."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import date

_MONTHS: Final = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)
_DAYS: Final = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()  # noqa: SIM905


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Everything a report says, in one language. Texts in braces take values by name."""

    language: str
    title: str
    where: str
    nothing: str
    all_well: str
    one_bad: str
    some_bad: str
    one_job: str
    same_error: str
    some_same_error: str
    colon: str
    rest_well: str
    tasks: str
    success: str
    bad: str
    saved: str
    saved_of: str
    delay: str
    articles: str
    per_hour: str
    attention: str
    times: str
    once: str
    jobs: str
    job_head: tuple[str, ...]
    others: str
    sources: str
    source_head: tuple[str, ...]
    status: dict[str, str]
    footer: str
    slower: str
    skipped: str
    skip_reasons: dict[str, str]
    source_fails: str
    next_day: str
    planned: str
    nothing_planned: str
    peak: str
    too_many: str
    spread: str
    paused: str
    paused_more: str
    planned_per_hour: str

    def day(self, day: date) -> str:
        """The day with its weekday."""
        if self.language == "zh":
            return f"{day.year}年{day.month}月{day.day}日 星期{'一二三四五六日'[day.weekday()]}"
        return f"{_DAYS[day.weekday()]} {day.day} {_MONTHS[day.month - 1]} {day.year}"

    def duration(self, seconds: float | None) -> str:
        """A duration in two units at most, "–" if there is none."""
        if seconds is None:
            return "–"
        zh = self.language == "zh"
        if seconds < 59.95:
            digits = 2 if seconds < 1 else 1
            return f"{seconds:.{digits}f} {'秒' if zh else 's'}"
        minutes, rest = divmod(round(seconds), 60)
        if minutes < 60:
            return f"{minutes} 分 {rest:02d} 秒" if zh else f"{minutes}m {rest:02d}s"
        return f"{minutes // 60} 小时 {minutes % 60:02d} 分" if zh else f"{minutes // 60}h {minutes % 60:02d}m"


def percent(value: float | None) -> str:
    """A rate with one digit, without it when it is whole; "–" if there is none. 99.96 is not 100."""
    if value is None:
        return "–"
    cut = int(value * 10) / 10
    return f"{cut:g} %" if cut == int(cut) else f"{cut:.1f} %"


def change(value: float, digits: int = 0) -> str:
    """A difference with its sign; "±0" where nothing changed."""
    text = f"{abs(value):,.{digits}f}"
    if not text.strip("0.,"):
        return "±0"
    return ("+" if value > 0 else "−") + text


WORDS: Final = {
    "en": Words(
        language="en",
        title="Daily report, {day}",
        where="Atlas Scheduler on {host}, 00:00 to 24:00 {zone}",
        nothing="No task ended on this day.",
        all_well="{total} {noun} ended, none failed.",
        one_bad="{total} {noun} ended, one did not succeed: **{job}**.",
        some_bad="{total} {noun} ended, {bad} did not succeed.",
        one_job="**{job}** caused {count} of them",
        same_error=", all with the same error since {time}",
        some_same_error=", {count} with the same error since {time}",
        colon=": ",
        rest_well="Everything else is normal.",
        tasks="tasks",
        success="success",
        bad="failed, timed out",
        saved="saved by a retry",
        saved_of="{saved} of {retried}",
        delay="start delay, p95",
        articles="new articles",
        per_hour="Tasks per hour",
        attention="What needs attention",
        times="{count} times, {first} to {last}",
        once="once, at {first}",
        jobs="Jobs",
        job_head=("Job", "Tasks", "Failed", "Timeout", "Cancelled", "Success, 7 d", "Median", "p95", "vs. 7 d"),
        others="{count} other jobs",
        sources="Articles",
        source_head=("Source", "New"),
        status={
            "SUCCESS": "success",
            "RETRYING": "retried",
            "TIMEOUT": "timeout",
            "FAILED": "failed",
            "CANCELLED": "cancelled",
        },
        footer="Made at {time} from {total} stored {noun}.",
        slower="took {factor} times as long as in the seven days before: {now}, then {before}",
        skipped="{count} fire times made no task: {reason}",
        skip_reasons={
            "overlap": "the task before was still unfinished",
            "paused": "the job was paused",
            "unbound": "its function was missing",
            "coalesced": "one later task stands for them",
            "stopped": "the scheduler was stopping",
            "fault": "they could not be decided",
            "missed": "they were missed and not caught up",
        },
        source_fails="has failed {count} times in a row",
        next_day="Next 24 hours",
        planned="{count} tasks planned",
        nothing_planned="Nothing is planned.",
        peak="; most at {time}: {peak} at once, {slots} slots",
        too_many="{peak} tasks at once at {time} for {slots} slots: {late} will start late",
        spread="; a spread of {spread} for {jobs} would part them",
        paused="{jobs} stays paused.",
        paused_more="{jobs} stay paused.",
        planned_per_hour="Planned tasks per hour",
    ),
    "zh": Words(
        language="zh",
        title="日报，{day}",
        where="{host} 上的 Atlas Scheduler，{zone} 00:00 至 24:00",
        nothing="这一天没有任务结束。",
        all_well="结束了 {total} 个任务，没有失败。",
        one_bad="结束了 {total} 个任务，其中 1 个未成功：**{job}**。",
        some_bad="结束了 {total} 个任务，其中 {bad} 个未成功。",
        one_job="其中 {count} 个来自 **{job}**",
        same_error="，自 {time} 起都是同一个错误",
        some_same_error="，{count} 个自 {time} 起是同一个错误",
        colon="：",
        rest_well="其余一切正常。",
        tasks="任务",
        success="成功率",
        bad="失败 + 超时",
        saved="重试后成功",
        saved_of="{saved} / {retried}",
        delay="启动延迟 p95",
        articles="新文章",
        per_hour="每小时任务",
        attention="需要关注",
        times="{count} 次，{first} 至 {last}",
        once="1 次，{first}",
        jobs="作业",
        job_head=("作业", "任务", "失败", "超时", "取消", "成功率，7 天", "中位数", "p95", "较 7 天"),
        others="其余 {count} 个作业",
        sources="文章",
        source_head=("来源", "新增"),
        status={"SUCCESS": "成功", "RETRYING": "重试后成功", "TIMEOUT": "超时", "FAILED": "失败", "CANCELLED": "取消"},
        footer="生成于 {time}，依据 {total} 个已存任务。",
        slower="耗时是前七天的 {factor} 倍：现在 {now}，之前 {before}",
        skipped="{count} 个触发时间没有产生任务：{reason}",
        skip_reasons={
            "overlap": "上一个任务尚未结束",
            "paused": "作业已暂停",
            "unbound": "找不到其函数",
            "coalesced": "由之后的一个任务代替",
            "stopped": "调度器正在停止",
            "fault": "无法决定",
            "missed": "已错过且不补跑",
        },
        source_fails="已连续失败 {count} 次",
        next_day="未来 24 小时",
        planned="计划 {count} 个任务",
        nothing_planned="没有计划任务。",
        peak="；最多在 {time}：同时 {peak} 个，{slots} 个槽位",
        too_many="{time} 同时有 {peak} 个任务，只有 {slots} 个槽位：{late} 个会晚启动",
        spread="；给 {jobs} 设置 {spread} 的分散可以错开它们",
        paused="{jobs} 仍处于暂停。",
        paused_more="{jobs} 仍处于暂停。",
        planned_per_hour="每小时计划任务",
    ),
}
