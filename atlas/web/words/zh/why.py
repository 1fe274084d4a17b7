"""What `why` says of a job or a task, in Chinese, and the words around it."""

from __future__ import annotations

from typing import Final

WHY: Final[dict[str, str]] = {
    "Why it ran, or did not": "为何运行或未运行",
    "Why it ran as it did": "运行经过与原因",
    "About": "时间",
    "Why?": "为什么？",
    "The latest decision": "最近一次决定",
    "{text} is no date and time such as 2026-12-24T18:00.": "{text} 不是日期时间，正确写法如 2026-12-24T18:00。",
    "It fired at {at}; its task is removed by retention.": "它在 {at} 触发过；相应任务已按保留期清除。",
    "The job is not there any more.": "该作业已不存在。",
    "It is switched off now: the config file says enabled: false.": "它目前已停用：配置文件中写明 enabled: false。",
    "No scheduler has run yet, and nothing starts until one does.": "还没有调度器运行过，在启动之前什么都不会开始。",
    "No scheduler runs since {at}, when it was stopped, and nothing starts until one does.": (
        "调度器已于 {at} 停止，在重新启动之前什么都不会开始。"
    ),
    "The scheduler, process {pid} on {host}, ended without a clean stop after {at}, and nothing starts"
    " until another one runs.": (
        "调度器（{host} 上的进程 {pid}）在 {at} 之后未正常停止就结束了；在另一个启动之前，什么都不会开始。"
    ),
    "The scheduler, process {pid} on {host}, wrote its last sign of life at {at}, and nothing starts until"
    " it can write or another one runs.": (
        "调度器（{host} 上的进程 {pid}）最后一次写入存活标记是在 {at}；在它能够写入或另一个启动之前，什么都不会开始。"
    ),
    "somebody": "某人",
    "It is paused since {at} by {who}{until}{reason}.": "它自 {at} 起被 {who} 暂停{until}{reason}。",
    " until {at}": "，至 {at} 止",
    " ({reason})": "（{reason}）",
    " (the same error)": "（同样的错误）",
    "It is parked now: {why}.": "它目前已被搁置：{why}。",
    "Its last fire time has passed.": "它的最后一次触发时间已过。",
    "Its last fire time has passed: end_at is {at}.": "它的最后一次触发时间已过：end_at 为 {at}。",
    "It starts next at {at}.": "下次于 {at} 开始。",
    "It starts next at {at}: start_at is {start}.": "下次于 {at} 开始：start_at 为 {start}。",
    "It is due next at {at}, and makes no task then: its calendar leaves that day out.": (
        "下次触发时间是 {at}，但届时不产生任务：它的日历跳过那一天。"
    ),
    "Its function is missing now{reason}: it makes no task until there is one.": (
        "它目前缺少函数{reason}：在有函数之前不产生任务。"
    ),
    "{at} is still to come, so nothing is decided yet.": "{at} 尚未到来，因此还没有任何决定。",
    "There was no such job at {at}: {what}, and the job came later.": "在 {at} 时没有这个作业：{what}，该作业是后来才有的。",
    "no revision of the config file was in force": "当时没有任何配置版本生效",
    "revision {n} was in force": "当时生效的是版本 {n}",
    "It was switched off at {at}: revision {n} says enabled: false.": (
        "它在 {at} 时处于停用状态：版本 {n} 写明 enabled: false。"
    ),
    "Nothing was decided for {at}.": "对 {at} 没有作出任何决定。",
    "By the schedule it has now it would have been due: either it had another one then, or the record of it"
    " was removed by retention, or no scheduler has run since.": (
        "按它现在的计划，当时本应触发：可能那时的计划不同，或相应记录已按保留期清除，或此后没有调度器运行过。"
    ),
    "It was not due then: its schedule is {schedule}{before}{after}.": (
        "当时并未到期：它的计划是{schedule}{before}{after}。"
    ),
    "; the fire time before is {at}": "；前一次触发时间是 {at}",
    ", the next one {at}": "，下一次是 {at}",
    "It was accepted at {at} as a retry of {task}.": "它在 {at} 作为任务 {task} 的再次运行被接受。",
    "It was recorded by hand at {at}.": "它在 {at} 由人工登记。",
    "It was submitted at {at}.": "它在 {at} 提交。",
    "It was started by hand at {at}{by}.": "它在 {at} {by}手动启动。",
    " by {who}": "由 {who} ",
    "It was due at {at}{spread}{caught}{under}.": "它应在 {at} 触发{spread}{caught}{under}。",
    ", and starts {s} later by its spread": "，按错峰设置推迟 {s} 开始",
    "; it was {reason}": "；{reason}",
    "caught up {s} s after its fire time": "在触发时间之后 {s} 秒补跑",
    ", under revision {n}": "，依据版本 {n}",
    ", under revision {n} of {at}": "，依据 {at} 的版本 {n}",
    "The scheduler was not able to look at it in time.": "调度器未能及时处理。",
    "No scheduler ran then; one was started at {at}.": "当时没有调度器在运行；{at} 才启动了一个。",
    " (the scheduler was not able to look at it in time)": "（调度器未能及时处理）",
    " (no scheduler ran then; one was started at {at})": "（当时没有调度器在运行；{at} 才启动了一个）",
    "Its task {task} waits for a slot since {at}{others}.": "它的任务 {task} 自 {at} 起等待空闲槽位{others}。",
    "That task waits for a slot{others}.": "该任务仍在等待空闲槽位{others}。",
    " while {name} runs since {at}": "，而 {name} 自 {at} 起正在运行",
    " while {n} tasks run, {name} for the longest, since {at}": "，而有 {n} 个任务正在运行，其中最久的 {name} 始于 {at}",
    "It waited {s} for its start{others}.": "它等待 {s} 后才开始{others}。",
    " while {n} other tasks ran": "，当时另有 {n} 个任务在运行",
    "Attempt {n} {what} at {at}{error}{again}.": "第 {n} 次尝试于 {at} {what}{error}{again}。",
    "ran out of time": "超时",
    "ended with the crash of its process": "因所在进程崩溃而终止",
    "was released when the scheduler stopped": "在调度器停止时被放回队列",
    "; it was tried again after {s}": "；{s} 后再次尝试",
    "its process died, and it may not run twice or lived in that process only": (
        "其进程已终止，而它不允许运行两次，或只存在于该进程中"
    ),
    "it took its process down three times and is not tried again": "它已三次使进程崩溃，不再尝试",
    "It succeeded at {at}{after}.": "它在 {at} 成功{after}。",
    "It failed at {at}{cause}{after}{error}.": "它在 {at} 失败{cause}{after}{error}。",
    "It ran out of time at {at}{limit}{after}{error}.": "它在 {at} 超时{limit}{after}{error}。",
    "It was cancelled at {at}{how}{after}{error}.": "它在 {at} 被取消{how}{after}{error}。",
    "It runs since {at}{error}.": "它自 {at} 起正在运行{error}。",
    "It is tried again at {at}{error}.": "它将在 {at} 再次尝试{error}。",
    "Its next attempt waits for a slot since {at}{others}.": "它的下一次尝试自 {at} 起等待空闲槽位{others}。",
    ", after {s}": "，历时 {s}",
    " because {why}": "，原因是{why}",
    ": an attempt may take {s}": "：每次尝试最多 {s}",
    ", because the job fired again and its overlap rule is replace": "，因为该作业再次触发，而其重叠策略是 replace",
    ", because another task of the job was unfinished": "，因为该作业的另一个任务尚未结束",
    "It was due at {at} and made no task, because {why}{under}.": "它应在 {at} 触发而没有产生任务，原因是{why}{under}。",
    "It made no task for {n} fire times from {at} to {until}, because {why}{under}.": (
        "从 {at} 到 {until} 的 {n} 次触发时间都没有产生任务，原因是{why}{under}。"
    ),
    "It made no task for more than a thousand fire times from {at} to {until}, because {why}{under}.": (
        "从 {at} 到 {until} 的一千多次触发时间都没有产生任务，原因是{why}{under}。"
    ),
    "it was paused": "它当时处于暂停状态",
    "it was paused: {reason}": "它当时处于暂停状态：{reason}",
    "it was paused by {who}": "它当时被 {who} 暂停",
    "it was paused by {who}: {reason}": "它当时被 {who} 暂停：{reason}",
    "a newer fire time was served in its place, as {detail}": "{detail}，已由更新的一次触发时间代替",
    "its function was missing ({detail})": "它的函数缺失（{detail}）",
    "its calendar leaves that day out": "它的日历排除了那一天",
    "the queue was stopping and took nothing": "队列正在停止，不再接受任务",
    "deciding on it raised {detail}": "作出决定时发生错误：{detail}",
    "task {task} of it was unfinished, and its overlap rule made no second one": (
        "它的任务 {task} 尚未结束，重叠策略不允许产生第二个"
    ),
    "its task {task} {ran}{end}; its overlap rule makes no second one meanwhile": (
        "它的任务 {task} {ran}{end}；在此期间重叠策略不允许产生第二个"
    ),
    "ran since {at}": "自 {at} 起在运行",
    "waited since {at}": "自 {at} 起在等待",
    " and ended {status} at {at}": "，于 {at} 结束（{status}）",
    "success": "成功",
    "nobody could serve it until {at}, {s} later, and {detail}{window}{down}": (
        "直到 {s} 之后的 {at} 都没有调度器能处理它，而{detail}{window}{down}"
    ),
    " within {s}": "（限 {s} 之内）",
    "catch-up is none": "补跑策略是 none",
    "catch-up is latest": "补跑策略是 latest",
    "catch-up is all": "补跑策略是 all",
}
