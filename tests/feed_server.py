"""A news server on loopback that does everything real ones do, and what hostile ones do.

`FeedServer` serves `ROUTES` on 127.0.0.1 and notes every request. Each route is a function of the request, so that it
can also die in the middle, drip, or lie about its length.
"""

from __future__ import annotations

import gzip
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Route = Callable[["Handler"], None]

RSS_TYPE = "application/rss+xml"
STOP = "feed-server-stop"


@dataclass
class Item:
    """An entry of a made-up feed."""

    title: str
    link: str = ""
    guid: str = ""
    date: str = ""
    text: str = ""


def rss(
    *items: Item, title: str = "Example", head: str = '<?xml version="1.0"?>', link: str = "https://news.example/"
) -> str:
    """An RSS 2.0 document."""
    return f'{head}\n<rss version="2.0"><channel><title>{title}</title><link>{link}</link>' + (
        "".join(map(_item, items)) + "</channel></rss>"
    )


def _item(item: Item) -> str:
    parts = {"title": item.title, "link": item.link, "guid": item.guid, "pubDate": item.date, "description": item.text}
    return "<item>" + "".join(f"<{name}>{escape(text)}</{name}>" for name, text in parts.items() if text) + "</item>"


MONDAY = "Mon, 23 Nov 2026 08:30:00 +0800"

RSS = rss(
    Item(
        "Rates stay",
        "https://news.example/rates?utm_source=rss",
        "n-1",
        MONDAY,
        "<p>The bank <b>waits</b>.</p><p>Again.</p>",
    ),
    Item(
        "Rain &amp; wind", "https://news.example/rain", "n-2", "Mon, 23 Nov 2026 09:00:00 GMT", "Umbrellas &lt; coats"
    ),
)

ATOM = """<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="de-DE"><title>Atom</title><link href="https://atom.example/"/>
<link rel="self" href="https://atom.example/feed"/><id>urn:feed</id><updated>2026-11-23T09:00:00Z</updated>
<entry><title type="html">Fish &amp;amp; chips</title><id>urn:1</id><link rel="alternate" href="/fish"/>
<author><name>Ada</name></author><updated>2026-11-23T10:00:00+01:00</updated>
<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>One</p><p>Two &lt; three</p></div></content></entry>
</feed>"""

RDF = """<?xml version="1.0"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><channel rdf:about="https://rdf.example/"><title>RDF</title>
<link>https://rdf.example/</link><dc:language>fr</dc:language></channel>
<item rdf:about="https://rdf.example/1"><title>Premier</title><link>https://rdf.example/1</link>
<dc:date>2026-11-23T08:00:00+01:00</dc:date><dc:creator>Jean</dc:creator><description>Texte</description></item></rdf:RDF>"""

BROKEN = """<rss version="2.0"><channel><title>Broken & bold</title><item><title>Tom & Jerry&nbsp;live</title>
<link>https://broken.example/a?x=1&y=2</link><guid>b1</guid></item><item><title>Second<b></title>
<link>https://broken.example/b</link><guid>b2</guid></item></channel></rss>"""

CHINESE = Item("央行维持利率不变", "https://zh.example/1", "z1", MONDAY, "<p>今天上午，央行宣布维持利率不变。</p>")
CHINESE_BIG5 = Item("央行維持利率不變", "https://tw.example/1", "t1", MONDAY, "<p>今天上午，央行宣布維持利率不變。</p>")

SIGN_IN = """<!DOCTYPE html><html><head><title>Please log in</title></head>
<body><form><input type="password"></form></body></html>"""
ENTITIES = """<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY a "boom"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;">]>
<rss version="2.0"><channel><title>x</title><item><title>&c;</title></item></channel></rss>"""


SENTENCES = "The river rose by two metres in the night, and the town moved its market to the hill. "
SENTENCES_ZH = "今天上午，中国人民银行宣布维持利率不变，市场对此早有预期，股市小幅上涨。"


def page(title: str, text: str, *, head: str = "", lang: str = "en", related: str = "") -> str:
    """A page with one article, and around it what pages have: navigation, related links, a footer."""
    paragraphs = "".join(f"<p>{part}</p>" for part in text.split("|"))
    return (
        f'<!doctype html><html lang="{lang}"><head>{head}<title>{title} - Example Times</title></head><body>'
        '<nav><a href="/">Home</a> <a href="/about">About us and our friends</a></nav>'
        f"<main><article><h1>{title}</h1>{paragraphs}</article></main>"
        f"<aside>{related}</aside><footer><p>Example Times. All rights reserved.</p></footer></body></html>"
    )


def index(*links: tuple[str, str], head: str = "") -> str:
    """A page that lists others."""
    items = "".join(f'<li><h3><a href="{href}">{name}</a></h3></li>' for href, name in links)
    return (
        f"<!doctype html><html><head>{head}<title>Example Times</title></head><body>"
        '<nav><a href="/tag/politics">Everything about politics and such</a><a href="/login">Sign in</a></nav>'
        f"<ul>{items}</ul></body></html>"
    )


@dataclass
class Handler:
    """One request, as a route sees it."""

    server: FeedServer
    raw: BaseHTTPRequestHandler

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers."""
        return dict(self.raw.headers.items())

    def send(self, body: bytes, kind: str = RSS_TYPE, status: int = 200, **headers: str) -> None:
        """Send a whole answer; underscores in header names become hyphens, `Content_Length` may lie."""
        headers.setdefault("Content_Length", str(len(body)))
        self.start(kind, status, **headers)
        self.raw.wfile.write(body)

    def start(self, kind: str = RSS_TYPE, status: int = 200, **headers: str) -> None:
        """Send the head of an answer."""
        self.raw.send_response(status)
        if kind:
            self.raw.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.raw.send_header(name.replace("_", "-"), value)
        self.raw.end_headers()

    def drip(self, piece: bytes, every_s: float = 0.02) -> None:
        """Send ``piece`` again and again until the client leaves or the server stops."""
        while not self.server.stopping.wait(every_s):
            self.raw.wfile.write(piece)


def document(text: str, encoding: str = "utf-8", kind: str = RSS_TYPE, **headers: str) -> Route:
    """A route that serves ``text``."""
    return lambda handler: handler.send(text.encode(encoding), kind, 200, **headers)


def redirect(to: str, status: int = 302) -> Route:
    """A route that sends the client elsewhere; ``{base}`` stands for this server."""
    return lambda handler: handler.send(b"", status=status, Location=to.format(base=handler.server.base))


def _nothing(handler: Handler) -> None:
    handler.send(b"", "text/plain", 404)


def _slow(handler: Handler) -> None:
    handler.start(Content_Length="1000000")
    handler.drip(b" ")


def _dies(handler: Handler) -> None:
    handler.send(RSS[:200].encode(), Content_Length=str(len(RSS)))


def _bomb(handler: Handler) -> None:
    handler.send(gzip.compress(RSS.encode() + b" " * 5_000_000), Content_Encoding="gzip")


def _huge(handler: Handler) -> None:
    handler.start()  # no length: until the connection closes
    for _ in range(200):
        handler.raw.wfile.write(b"<!-- padding -->" * 8192)


def _conditional(handler: Handler) -> None:
    tag = '"v1"'
    if handler.headers.get("If-None-Match") == tag:
        handler.start("", 304, ETag=tag)
    else:
        handler.send(RSS.encode(), ETag=tag, Last_Modified="Mon, 23 Nov 2026 00:00:00 GMT")


ROUTES: dict[str, Route] = {
    "/rss": document(RSS),
    "/atom": document(ATOM, kind="application/atom+xml"),
    "/rdf": document(RDF, kind="application/rdf+xml"),
    "/broken": document(BROKEN),
    "/gbk": document(rss(CHINESE, head='<?xml version="1.0" encoding="gb2312"?>'), "gbk", "text/xml"),
    "/big5": document(rss(CHINESE_BIG5, head='<?xml version="1.0" encoding="big5"?>'), "big5", "text/xml"),
    "/utf8": document(rss(CHINESE, head='<?xml version="1.0" encoding="utf-8"?>')),
    "/lies": document(rss(CHINESE, head='<?xml version="1.0" encoding="utf-8"?>'), "gbk", "text/xml; charset=utf-8"),
    "/gzip": lambda handler: handler.send(gzip.compress(RSS.encode()), Content_Encoding="gzip"),
    "/bomb": _bomb,
    "/huge": _huge,
    "/conditional": _conditional,
    "/empty": document("", kind=RSS_TYPE),
    "/empty-feed": document(rss()),
    "/page": document(
        "<!doctype html><html><head><title>Home</title></head><body>News</body></html>", kind="text/html"
    ),
    "/sign-in": document(SIGN_IN, kind="text/html"),
    "/entities": document(ENTITIES),
    "/moved": redirect("{base}/rss", 301),
    "/loop": redirect("{base}/loop"),
    "/inward": redirect("http://169.254.169.254/latest/meta-data/"),
    "/file": redirect("file:///etc/passwd"),
    "/slow": _slow,
    "/dies": _dies,
    "/busy": lambda handler: handler.send(b"busy", "text/plain", 503),
}


LOOPBACK: Final = frozenset({"127.0.0.1"})
"""What a fetcher must be allowed to reach the server."""


@dataclass(frozen=True)
class Source:
    """What the settings say of a source."""

    url: str
    name: str = "example"


@dataclass
class FeedServer:
    """The server; a context manager.

    Attributes:
        routes: Path → what answers it; everything else is 404.
        requests: (path, headers) of every request so far.
        stopping: Set when the server ends; long answers watch it.
    """

    routes: dict[str, Route] = field(default_factory=lambda: dict(ROUTES))
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        owner = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.requests.append((self.path, dict(self.headers.items())))
                route = owner.routes.get(self.path, _nothing)
                with suppress(BrokenPipeError, ConnectionResetError):  # the client has seen enough
                    route(Handler(owner, self))

            def log_message(self, *_args: Any) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    @property
    def base(self) -> str:
        """Its address, without a closing slash."""
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> Sequence[str]:
        """Every path asked for so far, in order."""
        return [path for path, _headers in self.requests]
