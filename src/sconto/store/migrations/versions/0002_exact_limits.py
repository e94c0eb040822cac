"""Closing, incarnations, epochs, and limits by shopper, store, code, attribute and period."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_RESERVED = sa.text("state = 'reserved'")


def upgrade() -> None:
    op.create_table(
        "alarms",
        sa.Column("peer", sa.String(length=300), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("peer", name=op.f("pk_alarms")),
    )
    op.create_table(
        "allotment_requests",
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("merchant", sa.String(length=300), nullable=False),
        sa.Column("needed_uses", sa.BigInteger(), nullable=False),
        sa.Column("needed_minor", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("promotion_id", "merchant", name=op.f("pk_allotment_requests")),
    )
    op.create_table(
        "ended_streams",
        sa.Column("source", sa.String(length=300), nullable=False),
        sa.Column("stream", sa.String(length=26), nullable=False),
        sa.PrimaryKeyConstraint("source", "stream", name=op.f("pk_ended_streams")),
    )
    op.create_table(
        "limit_counters",
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("counter", sa.String(length=43), nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("minor", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("uses >= 0 AND minor >= 0", name=op.f("ck_limit_counters_amounts")),
        sa.PrimaryKeyConstraint("promotion_id", "counter", name=op.f("pk_limit_counters")),
    )
    op.create_table(
        "redemption_counters",
        sa.Column("redemption_id", sa.String(length=160), nullable=False),
        sa.Column("counter", sa.String(length=43), nullable=False),
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("redemption_id", "counter", name=op.f("pk_redemption_counters")),
    )
    for table, column in (
        ("allotments", _text("epoch")),
        ("allotments", _flag("is_closing")),
        ("allotments", sa.Column("asked_at_ms", sa.BigInteger())),
        ("allotments", sa.Column("proof", sa.Text())),
        ("coupon_information", _flag("is_control")),
        ("inbox_streams", _text("stream")),
        ("outbox_streams", _text("stream")),
    ):
        op.add_column(table, column)
    op.create_index(
        "ix_redemptions_reserved",
        "redemptions",
        ["allotment_id"],
        sqlite_where=_RESERVED,
        postgresql_where=_RESERVED,
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=26), nullable=False, server_default=sa.text("''"))


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def downgrade() -> None:
    op.drop_index("ix_redemptions_reserved", table_name="redemptions")
    for table, column in (
        ("outbox_streams", "stream"),
        ("inbox_streams", "stream"),
        ("coupon_information", "is_control"),
        ("allotments", "proof"),
        ("allotments", "asked_at_ms"),
        ("allotments", "is_closing"),
        ("allotments", "epoch"),
    ):
        op.drop_column(table, column)
    for table in (
        "redemption_counters",
        "limit_counters",
        "ended_streams",
        "allotment_requests",
        "alarms",
    ):
        op.drop_table(table)
