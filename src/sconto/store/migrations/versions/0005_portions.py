"""Portions of allotments, for several processes of a merchant."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "portions",
        sa.Column("allotment_id", sa.String(length=26), nullable=False),
        sa.Column("process", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("left_uses", sa.BigInteger(), nullable=False),
        sa.Column("left_minor", sa.BigInteger(), nullable=False),
        sa.Column("spent_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("left_uses >= 0", name=op.f("ck_portions_left_uses")),
        sa.CheckConstraint("left_minor >= 0", name=op.f("ck_portions_left_minor")),
        sa.ForeignKeyConstraint(
            ["allotment_id"],
            ["allotments.allotment_id"],
            name=op.f("fk_portions_allotment_id"),
        ),
        sa.PrimaryKeyConstraint("allotment_id", "process", name=op.f("pk_portions")),
    )


def downgrade() -> None:
    """What processes took of an allotment goes back into its row."""
    for name in ("left_uses", "left_minor"):
        op.execute(_GIVE_BACK.format(name=name))
    op.drop_table("portions")


_GIVE_BACK = """
UPDATE allotments SET {name} = {name} + (
    SELECT COALESCE(SUM(portions.{name}), 0) FROM portions
    WHERE portions.allotment_id = allotments.allotment_id)"""
