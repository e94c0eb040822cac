"""Unique codes: jobs that make or import them, and the codes as digests."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_USED = sa.text("uses_left = 0")


def upgrade() -> None:
    op.create_table(
        "code_jobs",
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("job_id", sa.String(length=100), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("terms_digest", sa.String(length=80), nullable=False),
        sa.Column("prefix", sa.String(length=32), nullable=False),
        sa.Column("wanted", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("next_number", sa.BigInteger(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished_at_ms", sa.BigInteger()),
        sa.CheckConstraint(
            "done >= 0 AND done <= wanted AND done <= next_number", name=op.f("ck_code_jobs_done")
        ),
        sa.CheckConstraint("kind IN ('made', 'imported')", name=op.f("ck_code_jobs_kind")),
        sa.CheckConstraint(
            "state IN ('running', 'finished', 'undone')", name=op.f("ck_code_jobs_state")
        ),
        sa.ForeignKeyConstraint(
            ["promotion_id"], ["promotions.promotion_id"], name=op.f("fk_code_jobs_promotion_id")
        ),
        sa.PrimaryKeyConstraint("promotion_id", "job_id", name=op.f("pk_code_jobs")),
        sa.UniqueConstraint("number", name=op.f("uq_code_jobs_number")),
    )
    op.create_table(
        "codes",
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("uses_left", sa.SmallInteger(), nullable=False),
        sa.CheckConstraint("uses_left IN (0, 1)", name=op.f("ck_codes_uses_left")),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_codes")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_codes_used", "codes", ["job"], sqlite_where=_USED, postgresql_where=_USED)


def downgrade() -> None:
    op.drop_index("ix_codes_used", table_name="codes")
    op.drop_table("codes")
    op.drop_table("code_jobs")
