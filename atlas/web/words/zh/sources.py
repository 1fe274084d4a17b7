"""Why a source could not be collected, in Chinese: the words that rows keep of it → Chinese."""

from __future__ import annotations

from typing import Final

SOURCES: Final[dict[str, str]] = {
    # the answer
    "no complete answer within {s} s": "{s} 秒内没有完整的应答",
    "no answer in time ({error})": "没有及时应答（{error}）",
    "the connection failed ({error})": "连接失败（{error}）",
    "the address cannot be asked ({error})": "无法访问该地址（{error}）",
    "more than {n} redirects": "重定向超过 {n} 次",
    "the server answers {status}: {words}": "服务器应答 {status}：{words}",
    "the answer is longer than {n} bytes": "应答超过 {n} 字节",
    "the answer is packed as {encoding}, which was not asked for": "应答以 {encoding} 压缩，而这并非所请求的",
    "the answer is not {encoding} as it says ({error})": "应答并非它所声称的 {encoding}（{error}）",
    "the packed answer ends in the middle": "压缩的应答在中途结束",
    "the answer unpacks to more than {n} times its size": "应答解压后超过原大小的 {n} 倍",
    "the answer is empty": "应答为空",
    "host {host} has no address ({error})": "主机 {host} 没有地址（{error}）",
    "host {host} has no address": "主机 {host} 没有地址",
    "{host} is no host name": "{host} 不是主机名",
    "only http and https addresses with a host are read, not {scheme}:": "只读取带主机名的 http 和 https 地址，而不是 {scheme}:",
    "{host} has the {why} address {address}; add {name} to collect.allow_hosts in config.yaml if it is meant": "{host} 的地址 {address} 不是公网地址（{why}）；若确属有意，请将 {name} 加入 config.yaml 的 collect.allow_hosts",
    # what it holds
    "it is no feed: it begins with {text}": "不是订阅源：开头是 {text}",
    "its XML is broken ({error})": "XML 已损坏（{error}）",
    "its DOCTYPE declares entities, which are not read": "其 DOCTYPE 声明了实体，不予读取",
    "{what} came in place of a feed": "返回的是{what}而不是订阅源",
    "{what} came in place of a feed: {title}": "返回的是{what}而不是订阅源：{title}",
    "a sign-in page": "登录页",
    "a web page": "网页",
    "a sign-in page came in place of the page": "返回的是登录页而不是该网页",
    "it is no web page but {kind}": "不是网页，而是 {kind}",
    "it is no web page: it begins with {text}": "不是网页：开头是 {text}",
    "it is a feed: its source should have the type rss": "是订阅源：该来源的类型应为 rss",
    "it has no main text, and no links to articles": "没有正文，也没有指向文章的链接",
    "its markup cannot be read ({error})": "无法读取其标记（{error}）",
    "it has more than {n} tags": "标签超过 {n} 个",
    "an element has more than {n} attributes": "某个元素的属性超过 {n} 个",
    "more than {n} of its elements stand inside each other": "元素嵌套超过 {n} 层",
    "it could not be parsed within {s} s": "未能在 {s} 秒内解析",
    "none of its {n} new pages could be read; the first: {error}": "{n} 个新页面都无法读取；第一个：{error}",
    "unexpected {error}": "意外错误 {error}",
    # of the server
    "it wants a sign-in": "要求登录",
    "it refuses us": "拒绝访问",
    "there is nothing at this address": "该地址没有内容",
    "it is gone for good": "内容已永久删除",
    "it gets too many requests from us": "我们的请求过于频繁",
    "no words": "没有说明",
}
