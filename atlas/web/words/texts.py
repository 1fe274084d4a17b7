"""The texts: key → (English, Chinese)."""

from __future__ import annotations

from typing import Final

TEXTS: Final[dict[str, tuple[str, str]]] = {
    "product": ("Atlas Scheduler", "Atlas 调度器"),
    "sign_in": ("Sign in", "登录"),
    "sign_in.lead": (
        "The token stands in the file {file} on the scheduler's machine.",
        "令牌保存在调度器所在机器的文件 {file} 中。",
    ),
    "sign_in.token": ("Token", "令牌"),
    "sign_in.wrong": ("This is not the token.", "令牌不正确。"),
    "sign_in.used": (
        "This sign-in link was used already, or is older than 15 minutes.",
        "此登录链接已被使用，或已超过 15 分钟。",
    ),
    "sign_in.wait": ("Too many tries: wait {seconds} s.", "尝试次数过多：请等待 {seconds} 秒。"),
    "sign_out": ("Sign out", "退出"),
    "go_on": ("Go on", "继续"),
    "error.back": ("To the first page", "返回首页"),
}
