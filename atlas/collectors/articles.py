"""Articles, and how they are stored: each one once, however often and in however many sources it is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, select, update

from atlas.collectors.links import digest
from atlas.scheduler.store.statements import insert_into
from atlas.scheduler.store.tables import articles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.collectors.memory import Validators


@dataclass(frozen=True, slots=True, kw_only=True)
class Article:
    """One piece of news.

    Attributes:
        identity: Hash of the source and the name it has there; the same article of one source has the same.
        link: Address of its page; None if it has none.
        link_key: Hash of the page that ``link`` means; None where that page is not its own.
        published_at: When it says it was published; None unless that is beyond doubt.
        language: Tag such as ``zh-CN``; None if not given.
        content: Text without markup, a line per paragraph; "" if only the title is known.
    """

    source: str
    identity: str
    link: str | None
    link_key: str | None
    title: str
    author: str | None
    published_at: datetime | None
    fetched_at: datetime
    language: str | None
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one fetch of a source gave.

    Attributes:
        articles: Everything it lists now, known or not.
        at: When it was read; the ``fetched_at`` of each.
        validators: What to ask with next time.
        seen: Link keys of stored articles that stand in it still and were not read again.
    """

    articles: Sequence[Article]
    at: datetime
    validators: Validators
    seen: Sequence[str] = ()


_SEEN: Final = tuple(
    update(articles).where(column.in_(bindparam("keys", expanding=True))).values(seen_at=bindparam("at"))
    for column in (articles.c.identity, articles.c.link_key)
)
_CHUNK: Final = 500


def known_pages(connection: Connection, source: str, keys: Sequence[str]) -> set[str]:
    """Which of these link keys are stored: as pages of any source, or as what led this source to one."""
    by_identity = {digest(source, key): key for key in keys}
    found: set[str] = set()
    for start in range(0, len(keys), _CHUNK):
        chunk = list(keys[start : start + _CHUNK])
        pages = select(articles.c.link_key).where(articles.c.link_key.in_(chunk))
        names = select(articles.c.identity).where(articles.c.identity.in_([digest(source, key) for key in chunk]))
        found |= set(connection.execute(pages).scalars())
        found |= {by_identity[identity] for identity in connection.execute(names).scalars()}
    return found


def mark_seen(connection: Connection, source: str, keys: Sequence[str], at: datetime) -> None:
    """Note that the stored articles of these link keys stand in their source still."""
    identities = [digest(source, key) for key in keys]
    for statement, values in zip(_SEEN, (identities, list(keys)), strict=True):
        for start in range(0, len(values), _CHUNK):
            connection.execute(statement, {"keys": values[start : start + _CHUNK], "at": at.timestamp()})


def store_articles(connection: Connection, found: Sequence[Article]) -> int:
    """Store the articles that are not known yet and mark all of them as seen; returns how many were new.

    Runs in the caller's transaction; running it again adds nothing.
    """
    # No target: an article is known by its identity or by its page, whichever source had it first.
    insert = insert_into(connection, articles).on_conflict_do_nothing().returning(articles.c.id)
    new = 0
    for start in range(0, len(found), _CHUNK):
        chunk = found[start : start + _CHUNK]
        at = max(article.fetched_at for article in chunk).timestamp()
        keys = ([one.identity for one in chunk], [one.link_key for one in chunk if one.link_key is not None])
        for statement, values in zip(_SEEN, keys, strict=True):
            connection.execute(statement, {"keys": values, "at": at})
        inserted = connection.execute(insert, [_row(article) for article in chunk])
        new += len(inserted.all())
    return new


def _row(article: Article) -> dict[str, Any]:
    return {
        "source": article.source,
        "identity": article.identity,
        "link": article.link,
        "link_key": article.link_key,
        "title": article.title,
        "author": article.author,
        "published_at": None if article.published_at is None else article.published_at.timestamp(),
        "fetched_at": article.fetched_at.timestamp(),
        "seen_at": article.fetched_at.timestamp(),
        "language": article.language,
        "content": article.content,
    }
