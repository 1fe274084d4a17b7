"""What rows and leases hold in plain English, in Chinese: the words the engine wrote → Chinese."""

from __future__ import annotations

from typing import Final

KEPT: Final[dict[str, str]] = {
    # how an attempt ended; what stands behind other words first
    "{what}; it does not stop, so it was abandoned and may still be running": "{what}；它不停止，已被放弃，可能仍在运行",
    "{what} (by hand, or because memory ran out)": "{what}（手动终止，或内存不足）",
    "the attempt ran longer than its limit of {s} s": "本次尝试超过了 {s} 秒的时限",
    "the scheduler stopped while it was running; it may not run again": "运行途中调度器停止；不允许再次运行",
    "its owner died; the function or its arguments lived in that process only": "所属进程已消失；函数或参数只存在于那个进程中",
    "the process died in the middle of the attempt": "进程在尝试途中消失",
    "its process died": "所属进程已消失",
    "it was unfinished in the imported status file": "在导入的状态文件中尚未结束",
    "the queue stopped before it could run; its function lived in that process only": "队列在它运行前停止；函数只存在于那个进程中",
    "the coroutine was cancelled, not by Atlas: its loop closes, or code did it": "协程被取消，但不是由 Atlas：事件循环关闭，或由代码取消",
    "the worker process {pid} died; somebody else took its exit code": "工作进程 {pid} 已消失；退出码被他人取走",
    "the worker process {pid} ended with exit code {code} in the middle of the attempt": "工作进程 {pid} 在尝试途中以退出码 {code} 结束",
    "the worker process {pid} was killed by {name}": "工作进程 {pid} 被 {name} 终止",
    # what a revision changed
    "no change to jobs": "作业没有变化",
    # what befell the clock
    "the machine slept for {s}": "机器休眠了 {s}",
    "this process did not run for {s}": "本进程停顿了 {s}",
    "the wall clock was set forward by {s}": "系统时钟被调快了 {s}",
    "the wall clock was set back by {s}; 1 next start brought back behind it": "系统时钟被调慢了 {s}；已相应提前 1 个后续启动",
    "the wall clock was set back by {s}; {n} next starts brought back behind it": "系统时钟被调慢了 {s}；已相应提前 {n} 个后续启动",
    "the wall clock was set back by {s}; the next starts of jobs may lie too far ahead, restart to bring them back": "系统时钟被调慢了 {s}；作业的后续启动可能过晚，请重启以恢复",
    "the wall clock was set back by {s}": "系统时钟被调慢了 {s}",
    "the loop that looks for due jobs was restarted: {what}": "查找到期作业的循环已重启：{what}",
    "its thread had ended": "其线程已结束",
    "it had not looked for due jobs for {s}": "已有 {s} 没有查找到期作业",
}
KEPT_TOO: Final = (
    "{said}; did you mean {name}?",
    "no function {name} is registered",
    "no function {name}: {why}",
    "{error}; what was written there since this program imported it needs a restart",
    "function {name} is defined in {origin}, which is not on the allow-list (functions.allow)",
    "function {name}: package {package} is not on the allow-list (functions.allow in config.yaml)",
    "its function {function} lived in another process; add_job({job}, …) binds it",
    "{what}: it cannot run on executor {executor}",
)
"""What rows keep of a job without its function; errors say it as well, and it is translated there.

A text that is none of these is somebody else's: it is shown as it stands.
"""
