"""The tables.

Instants are seconds since 1970 (UTC) as floats, JSON is text encoded by whoever submits: both cost 1.5 µs less per
column and row than SQLAlchemy's types. Alembic's migrations lead to exactly these tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

metadata: Final = MetaData()

UNFINISHED_SQL: Final = "status IN ('PENDING', 'RUNNING', 'RETRYING')"
"""Found along `tasks_by_status`; a partial index of them would cost each task two of its six writes to indexes."""

tasks: Final = Table(
    "tasks",
    metadata,
    Column("id", String(191), primary_key=True),
    Column("name", Text, nullable=False),
    Column("function", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("job_id", String(191)),
    Column("fire_time", Float),
    Column("origin", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("policy", Text, nullable=False),
    Column("revision", Integer),
    Column("volatile", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    # what moves:
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("due_at", Float),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("result", Text),
    Column("result_omitted", Boolean, nullable=False),
    Column("error", Text),
    Column("cause", String(16)),
    Column("owner", String(64)),
    Column("cancel_requested", Boolean, nullable=False),
    Index("tasks_by_time", "created_at"),
    Index("tasks_by_job", "job_id", "created_at"),
    Index("tasks_by_status", "status", "created_at"),
    Index("tasks_final_by_end", "finished_at"),
)

FINAL_SQL: Final = "finished_at IS NOT NULL"


def make_tables(connection: Connection) -> None:
    """Make them all; the condition of a partial index, written above, would load every database's dialect at import."""
    for index in tasks.indexes:
        if index.name == "tasks_final_by_end":
            index.kwargs[f"{connection.dialect.name}_where"] = text(FINAL_SQL)
    metadata.create_all(connection)


attempts: Final = Table(
    "attempts",
    metadata,
    Column("task_id", String(191), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("outcome", String(16), nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float, nullable=False),
    Column("wait_s", Float),
    Column("error", Text),
)

fires: Final = Table(
    "fires",
    metadata,
    Column("job_id", String(191), primary_key=True),
    Column("fire_time", Float, primary_key=True),
    Column("task_id", String(191)),
    Column("skip_reason", String(32)),
    Column("detail", Text),
    Column("last", Float),
    Column("count", Integer),
    Column("decided_at", Float, nullable=False),
    Column("revision", Integer),
)

job_state: Final = Table(
    "job_state",
    metadata,
    Column("job_id", String(191), primary_key=True),
    Column("paused_at", Float),
    Column("paused_until", Float),
    Column("paused_by", Text),
    Column("reason", Text),
)

task_logs: Final = Table(
    "task_logs",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("task_id", String(191), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("logged_at", Float, nullable=False),
    Column("level", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Index("task_logs_by_task", "task_id", "id"),
)

revisions: Final = Table(
    "revisions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("accepted_at", Float, nullable=False),
    Column("source", String(16), nullable=False),
    Column("author", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("summary", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("checked", Text),
)

audit: Final = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Index("audit_by_time", "at"),
    Index("audit_by_subject", "subject", "id"),
)

config_requests: Final = Table(
    "config_requests",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("asked_at", Float, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("answered_at", Float),
    Column("revision", Integer),
    Column("error", Text),
)
"""What other processes ask of the scheduler about the config file: to apply the text with this digest."""

counters: Final = Table(
    "counters",
    metadata,
    Column("job_id", String(191), primary_key=True),
    Column("status", String(16), primary_key=True),
    Column("tasks", Integer, nullable=False),
    Column("timed", Integer, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("min_s", Float),
    Column("max_s", Float),
)
"""Lifetime totals of final tasks; ``job_id`` is '' for tasks of no job. Cleanup does not touch them."""

leases: Final = Table(
    "leases",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("token", Integer, nullable=False),
    Column("holder", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("renewed_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("stopped_at", Float),
    Column("figures", Text),
)

commits: Final = Table(
    "commits",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("at", Float, nullable=False),
)
"""Each process's last commit that others hear of, see `PostgresNotifier`; PostgreSQL alone."""

jobs: Final = Table(
    "apscheduler_jobs",
    metadata,
    Column("id", String(191), primary_key=True),
    Column("next_run_time", Float, index=True),
    Column("job_state", LargeBinary, nullable=False),
)
"""APScheduler's table: ``job_state`` is the definition as UTF-8 JSON, never a pickle."""

articles: Final = Table(
    "articles",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("source", Text, nullable=False),
    Column("identity", String(64), nullable=False),
    Column("link", Text),
    Column("link_key", String(64)),
    Column("title", Text, nullable=False),
    Column("author", Text),
    Column("published_at", Float),
    Column("fetched_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("language", String(16)),
    Column("content", Text, nullable=False),
    UniqueConstraint("identity", name="articles_identity"),
    UniqueConstraint("link_key", name="articles_link"),
    Index("articles_by_time", "fetched_at"),
)
"""What the collectors found. ``identity`` and ``link_key`` are hashes of source + guid and of the normalised address.

``seen_at`` is when the article last stood in its source: while it does, retention leaves it alone, since it would be
collected again as new.
"""

sources: Final = Table(
    "sources",
    metadata,
    Column("name", String(191), primary_key=True),
    Column("address", Text, nullable=False),
    Column("etag", Text),
    Column("last_modified", Text),
    Column("fetched_at", Float),
    Column("read_at", Float),
    Column("failures", Integer, nullable=False),
    Column("last_error", Text),
)
"""What the collectors remember of a source: when it last answered (``fetched_at``) and last had something to read
(``read_at``; it answers "nothing changed" without being read), and failures in a row since."""
