"""The tables of the first release."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

FINAL = sa.text("finished_at IS NOT NULL")


def upgrade() -> None:
    """Make them in an empty database."""
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(191), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("function", sa.Text, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("job_id", sa.String(191)),
        sa.Column("fire_time", sa.Float),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer),
        sa.Column("volatile", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("due_at", sa.Float),
        sa.Column("started_at", sa.Float),
        sa.Column("finished_at", sa.Float),
        sa.Column("result", sa.Text),
        sa.Column("result_omitted", sa.Boolean, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("cause", sa.String(16)),
        sa.Column("owner", sa.String(64)),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
    )
    op.create_index("tasks_by_job", "tasks", ["job_id", "created_at"])
    op.create_index("tasks_by_status", "tasks", ["status", "created_at"])
    op.create_index("tasks_by_time", "tasks", ["created_at"])
    op.create_index("tasks_final_by_end", "tasks", ["finished_at"], sqlite_where=FINAL, postgresql_where=FINAL)
    op.create_table(
        "attempts",
        sa.Column("task_id", sa.String(191), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("ended_at", sa.Float, nullable=False),
        sa.Column("wait_s", sa.Float),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "fires",
        sa.Column("job_id", sa.String(191), primary_key=True),
        sa.Column("fire_time", sa.Float, primary_key=True),
        sa.Column("task_id", sa.String(191)),
        sa.Column("skip_reason", sa.String(32)),
        sa.Column("detail", sa.Text),
        sa.Column("last", sa.Float),
        sa.Column("count", sa.Integer),
        sa.Column("decided_at", sa.Float, nullable=False),
        sa.Column("revision", sa.Integer),
    )
    op.create_table(
        "job_state",
        sa.Column("job_id", sa.String(191), primary_key=True),
        sa.Column("paused_at", sa.Float),
        sa.Column("paused_until", sa.Float),
        sa.Column("paused_by", sa.Text),
        sa.Column("reason", sa.Text),
    )
    op.create_table(
        "task_logs",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("task_id", sa.String(191), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("logged_at", sa.Float, nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
    )
    op.create_index("task_logs_by_task", "task_logs", ["task_id", "id"])
    op.create_table(
        "revisions",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("accepted_at", sa.Float, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("checked", sa.Text),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
    )
    op.create_index("audit_by_time", "audit", ["at"])
    op.create_index("audit_by_subject", "audit", ["subject", "id"])
    op.create_table(
        "config_requests",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("asked_at", sa.Float, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("answered_at", sa.Float),
        sa.Column("revision", sa.Integer),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "counters",
        sa.Column("job_id", sa.String(191), primary_key=True),
        sa.Column("status", sa.String(16), primary_key=True),
        sa.Column("tasks", sa.Integer, nullable=False),
        sa.Column("timed", sa.Integer, nullable=False),
        sa.Column("duration_s", sa.Float, nullable=False),
        sa.Column("min_s", sa.Float),
        sa.Column("max_s", sa.Float),
    )
    op.create_table(
        "leases",
        sa.Column("owner", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("renewed_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("stopped_at", sa.Float),
        sa.Column("figures", sa.Text),
    )
    op.create_table(
        "commits",
        sa.Column("owner", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "apscheduler_jobs",
        sa.Column("id", sa.String(191), primary_key=True),
        sa.Column("next_run_time", sa.Float),
        sa.Column("job_state", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_apscheduler_jobs_next_run_time", "apscheduler_jobs", ["next_run_time"])
    op.create_table(
        "articles",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("identity", sa.String(64), nullable=False),
        sa.Column("link", sa.Text),
        sa.Column("link_key", sa.String(64)),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("author", sa.Text),
        sa.Column("published_at", sa.Float),
        sa.Column("fetched_at", sa.Float, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
        sa.Column("language", sa.String(16)),
        sa.Column("content", sa.Text, nullable=False),
        sa.UniqueConstraint("identity", name="articles_identity"),
        sa.UniqueConstraint("link_key", name="articles_link"),
    )
    op.create_index("articles_by_time", "articles", ["fetched_at"])
    op.create_table(
        "sources",
        sa.Column("name", sa.String(191), primary_key=True),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("etag", sa.Text),
        sa.Column("last_modified", sa.Text),
        sa.Column("fetched_at", sa.Float),
        sa.Column("read_at", sa.Float),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("last_error", sa.Text),
    )
