"""Moves of tokens to another merchant."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_BEFORE = "'offered', 'lapsed', 'issued', 'redeemed', 'revoked', 'deleted'"
_PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    op.create_table(
        "moves",
        sa.Column("token_id", sa.String(length=26), nullable=False),
        sa.Column("move_id", sa.String(length=100), nullable=False),
        sa.Column("merchant", sa.String(length=300)),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64)),
        sa.Column("uses", sa.Integer()),
        sa.Column("successor_id", sa.String(length=26)),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('pending', 'moved', 'refused')", name=op.f("ck_moves_state")),
        sa.PrimaryKeyConstraint("token_id", "move_id", name=op.f("pk_moves")),
    )
    op.create_index(
        "uq_moves_pending",
        "moves",
        ["token_id"],
        unique=True,
        sqlite_where=_PENDING,
        postgresql_where=_PENDING,
    )
    _allow(f"{_BEFORE}, 'moved'", sa.Column("uses", sa.Integer()))


def _allow(statuses: str, added: sa.Column[int] | None) -> None:
    """Statuses that a token may have. SQLite makes the table anew for it."""
    with op.batch_alter_table("tokens") as batch:
        batch.drop_constraint(op.f("ck_tokens_status"), type_="check")
        batch.create_check_constraint(op.f("ck_tokens_status"), f"status IN ({statuses})")
        if added is not None:
            batch.add_column(added)
        else:
            batch.drop_column("uses")


def downgrade() -> None:
    op.execute("UPDATE tokens SET status = 'revoked' WHERE status = 'moved'")
    _allow(_BEFORE, None)
    op.drop_index("uq_moves_pending", table_name="moves")
    op.drop_table("moves")
