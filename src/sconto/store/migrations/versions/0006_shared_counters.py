"""Limits that merchants share: budgets by counter; counters know when their period ends."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for table in ("budgets", "allotment_requests"):
        _rekey(table)
    for table, column in (
        ("transfers", _counter()),
        ("allotments", _counter()),
        ("allotments", sa.Column("ends_at_ms", sa.BigInteger())),
        ("limit_counters", sa.Column("ends_at_ms", sa.BigInteger())),
        (
            "limit_counters",
            sa.Column("changed_at_ms", sa.BigInteger(), nullable=False, server_default="0"),
        ),
    ):
        op.add_column(table, column)
    op.create_table(
        "redemption_parts",
        sa.Column("redemption_id", sa.String(length=160), nullable=False),
        sa.Column("allotment_id", sa.String(length=26), nullable=False),
        sa.PrimaryKeyConstraint("redemption_id", "allotment_id", name=op.f("pk_redemption_parts")),
    )
    op.create_table(
        "epochs",
        sa.Column("epoch", sa.String(length=26), nullable=False),
        sa.Column("began_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("pk_epochs")),
    )
    op.drop_index("ix_allotments_promotion", table_name="allotments")
    for name, table, columns in (
        ("ix_allotments_promotion", "allotments", ["promotion_id", "counter", "holder", "state"]),
        ("ix_limit_counters_ends_at", "limit_counters", ["ends_at_ms"]),
        ("ix_redemption_counters_counter", "redemption_counters", ["promotion_id", "counter"]),
        ("ix_redemption_parts_allotment", "redemption_parts", ["allotment_id"]),
    ):
        op.create_index(name, table, columns)


#: Primary keys before.
_KEYS = {"budgets": ["promotion_id"], "allotment_requests": ["promotion_id", "merchant"]}


def _rekey(table: str) -> None:
    """The counter belongs to the primary key."""
    with op.batch_alter_table(table) as changed:
        changed.add_column(_counter())
        changed.drop_constraint(op.f(f"pk_{table}"), type_="primary")
        changed.create_primary_key(op.f(f"pk_{table}"), [*_KEYS[table], "counter"])


def _counter() -> sa.Column[str]:
    return sa.Column("counter", sa.String(length=200), nullable=False, server_default=sa.text("''"))


def downgrade() -> None:
    op.execute(
        "DELETE FROM portions WHERE allotment_id IN"
        " (SELECT allotment_id FROM allotments WHERE counter <> '')"
    )
    for name in ("budgets", "allotment_requests", "transfers", "allotments"):
        rows = sa.table(name, sa.column("counter"))
        op.execute(sa.delete(rows).where(rows.c.counter != ""))
    for name, table in (
        ("ix_allotments_promotion", "allotments"),
        ("ix_limit_counters_ends_at", "limit_counters"),
        ("ix_redemption_counters_counter", "redemption_counters"),
    ):
        op.drop_index(name, table_name=table)
    op.create_index("ix_allotments_promotion", "allotments", ["promotion_id", "holder", "state"])
    for table in ("redemption_parts", "epochs"):
        op.drop_table(table)
    for table, column in (
        ("limit_counters", "changed_at_ms"),
        ("limit_counters", "ends_at_ms"),
        ("allotments", "ends_at_ms"),
        ("allotments", "counter"),
        ("transfers", "counter"),
    ):
        op.drop_column(table, column)
    for table, key in _KEYS.items():
        with op.batch_alter_table(table) as changed:
            changed.drop_constraint(op.f(f"pk_{table}"), type_="primary")
            changed.drop_column("counter")
            changed.create_primary_key(op.f(f"pk_{table}"), key)
