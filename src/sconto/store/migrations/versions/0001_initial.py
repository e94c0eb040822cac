"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "allotments",
        sa.Column("allotment_id", sa.String(length=26), nullable=False),
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("holder", sa.String(length=300), nullable=False),
        sa.Column("incarnation", sa.String(length=26), nullable=False),
        sa.Column("granted_uses", sa.BigInteger(), nullable=False),
        sa.Column("granted_minor", sa.BigInteger(), nullable=False),
        sa.Column("left_uses", sa.BigInteger(), nullable=False),
        sa.Column("left_minor", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('open', 'closed', 'written_off')", name=op.f("ck_allotments_state")
        ),
        sa.CheckConstraint(
            "left_minor >= 0 AND left_minor <= granted_minor", name=op.f("ck_allotments_left_minor")
        ),
        sa.CheckConstraint(
            "left_uses >= 0 AND left_uses <= granted_uses", name=op.f("ck_allotments_left_uses")
        ),
        sa.PrimaryKeyConstraint("allotment_id", name=op.f("pk_allotments")),
    )
    op.create_index(
        "ix_allotments_promotion", "allotments", ["promotion_id", "holder", "state"], unique=False
    )
    op.create_table(
        "clients",
        sa.Column("client_ref", sa.String(length=100), nullable=False),
        sa.Column("hub", sa.String(length=300), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("holder_jkt", sa.String(length=43), nullable=False),
        sa.Column("proven_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("client_ref", "hub", name=op.f("pk_clients")),
        sa.UniqueConstraint("hub", "subject", name=op.f("uq_clients_hub_subject")),
    )
    op.create_table(
        "coupon_information",
        sa.Column("token_id", sa.String(length=26), nullable=False),
        sa.Column("hub", sa.String(length=300), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("holder_jkt", sa.String(length=43), nullable=False),
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("terms_digest", sa.String(length=80), nullable=False),
        sa.Column("frame_id", sa.String(length=80), nullable=False),
        sa.Column("handle", sa.String(length=24), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("uses_left", sa.Integer(), nullable=False),
        sa.Column("is_revoked", sa.Boolean(), nullable=False),
        sa.Column("clipped_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "uses_left >= 0 AND uses_left <= uses", name=op.f("ck_coupon_information_uses_left")
        ),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_coupon_information")),
        sa.UniqueConstraint("handle", name=op.f("uq_coupon_information_handle")),
    )
    op.create_index(
        "ix_coupon_information_subject", "coupon_information", ["hub", "subject"], unique=False
    )
    op.create_table(
        "frame_sequences",
        sa.Column("issuer", sa.String(length=300), nullable=False),
        sa.Column("audience", sa.String(length=300), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "audience", name=op.f("pk_frame_sequences")),
    )
    op.create_table(
        "frames",
        sa.Column("frame_id", sa.String(length=80), nullable=False),
        sa.Column("issuer", sa.String(length=300), nullable=False),
        sa.Column("audience", sa.String(length=300), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("received_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status IN ('active', 'withdrawn')", name=op.f("ck_frames_status")),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_frames")),
        sa.UniqueConstraint(
            "issuer", "audience", "sequence", name=op.f("uq_frames_issuer_audience_sequence")
        ),
    )
    op.create_index("ix_frames_received", "frames", ["received_at_ms", "frame_id"], unique=False)
    op.create_table(
        "idempotency",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("reply", sa.LargeBinary(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "operation", "key", name=op.f("pk_idempotency")),
    )
    op.create_index("ix_idempotency_at", "idempotency", ["at_ms"], unique=False)
    op.create_table(
        "inbox",
        sa.Column("source", sa.String(length=300), nullable=False),
        sa.Column("event_id", sa.String(length=200), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("received_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "event_id", name=op.f("pk_inbox")),
    )
    op.create_table(
        "inbox_streams",
        sa.Column("source", sa.String(length=300), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_inbox_streams")),
    )
    op.create_table(
        "journal",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("merchant", sa.String(length=300), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_journal")),
    )
    op.create_table(
        "orders",
        sa.Column("order_id", sa.String(length=100), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("client_ref", sa.String(length=100), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("subtotal_minor", sa.BigInteger(), nullable=False),
        sa.Column("shipping_minor", sa.BigInteger(), nullable=False),
        sa.Column("discount_minor", sa.BigInteger(), nullable=False),
        sa.Column("cart", sa.LargeBinary(), nullable=False),
        sa.Column("evaluation", sa.LargeBinary(), nullable=False),
        sa.Column("kept", sa.LargeBinary(), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state IN ('reserved', 'redeemed', 'released', 'expired', 'refused')",
            name=op.f("ck_orders_state"),
        ),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_orders")),
    )
    op.create_index("ix_orders_at", "orders", ["at_ms"], unique=False)
    op.create_index(
        "ix_orders_expiry",
        "orders",
        ["expires_at_ms"],
        unique=False,
        sqlite_where=sa.text("state = 'reserved'"),
        postgresql_where=sa.text("state = 'reserved'"),
    )
    op.create_table(
        "outbox",
        sa.Column("destination", sa.String(length=300), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("destination", "sequence", name=op.f("pk_outbox")),
    )
    op.create_table(
        "outbox_streams",
        sa.Column("destination", sa.String(length=300), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("acked_sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_outbox_streams")),
    )
    op.create_table(
        "parked_events",
        sa.Column("source", sa.String(length=300), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("parked_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "sequence", name=op.f("pk_parked_events")),
    )
    op.create_table(
        "receipts",
        sa.Column("merchant", sa.String(length=300), nullable=False),
        sa.Column("order_id", sa.String(length=100), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("is_verified", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("merchant", "order_id", name=op.f("pk_receipts")),
    )
    op.create_table(
        "redemptions",
        sa.Column("redemption_id", sa.String(length=160), nullable=False),
        sa.Column("order_id", sa.String(length=100), nullable=False),
        sa.Column("merchant", sa.String(length=300), nullable=False),
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("terms_digest", sa.String(length=80), nullable=False),
        sa.Column("token_id", sa.String(length=26), nullable=True),
        sa.Column("use_number", sa.Integer(), nullable=True),
        sa.Column("code", sa.String(length=100), nullable=True),
        sa.Column("allotment_id", sa.String(length=26), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("reversed_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("dispute", sa.String(length=64), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('reserved', 'redeemed', 'released', 'expired', 'reversed', 'disputed')",
            name=op.f("ck_redemptions_state"),
        ),
        sa.CheckConstraint(
            "amount_minor >= 0 AND reversed_minor >= 0 AND reversed_minor <= amount_minor",
            name=op.f("ck_redemptions_amounts"),
        ),
        sa.PrimaryKeyConstraint("redemption_id", name=op.f("pk_redemptions")),
    )
    op.create_index(op.f("ix_redemptions_order_id"), "redemptions", ["order_id"], unique=False)
    op.create_index(
        "uq_redemptions_order_promotion",
        "redemptions",
        ["merchant", "order_id", "promotion_id"],
        unique=True,
        sqlite_where=sa.text("token_id IS NULL AND state IN ('reserved', 'redeemed')"),
        postgresql_where=sa.text("token_id IS NULL AND state IN ('reserved', 'redeemed')"),
    )
    op.create_index(
        "uq_redemptions_token_use",
        "redemptions",
        ["token_id", "use_number"],
        unique=True,
        sqlite_where=sa.text("token_id IS NOT NULL AND state IN ('reserved', 'redeemed')"),
        postgresql_where=sa.text("token_id IS NOT NULL AND state IN ('reserved', 'redeemed')"),
    )
    op.create_table(
        "refusal_statistics",
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("merchant", sa.String(length=300), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "promotion_id", "merchant", "day", "reason", name=op.f("pk_refusal_statistics")
        ),
    )
    op.create_table(
        "statistics",
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("merchant", sa.String(length=300), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("shown", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("clipped", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("presented", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("applied", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("redeemed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reversed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("given_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reversed_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("promotion_id", "merchant", "day", name=op.f("pk_statistics")),
    )
    op.create_table(
        "tenants",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('operator', 'brand', 'merchant', 'wallet', 'account')",
            name=op.f("ck_tenants_kind"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_tenants")),
    )
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(length=26), nullable=False),
        sa.Column("clip_id", sa.String(length=100), nullable=False),
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("terms_digest", sa.String(length=80), nullable=False),
        sa.Column("frame_id", sa.String(length=80), nullable=False),
        sa.Column("hub", sa.String(length=300), nullable=False),
        sa.Column("merchant", sa.String(length=300), nullable=False),
        sa.Column("wallet", sa.String(length=300), nullable=True),
        sa.Column("account_id", sa.String(length=64), nullable=True),
        sa.Column("subject", sa.String(length=64), nullable=True),
        sa.Column("holder_jkt", sa.String(length=43), nullable=True),
        sa.Column("handle", sa.String(length=24), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("status_index", sa.BigInteger(), nullable=True),
        sa.Column("jws", sa.Text(), nullable=True),
        sa.Column("offer_code_hash", sa.LargeBinary(), nullable=True),
        sa.Column("offer_expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("clipped_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=True),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "status IN ('offered', 'lapsed', 'issued', 'redeemed', 'revoked', 'deleted')",
            name=op.f("ck_tokens_status"),
        ),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("handle", name=op.f("uq_tokens_handle")),
        sa.UniqueConstraint("status_index", name=op.f("uq_tokens_status_index")),
        sa.UniqueConstraint("wallet", "clip_id", name=op.f("uq_tokens_wallet_clip_id")),
    )
    op.create_index("ix_tokens_account", "tokens", ["account_id", "clipped_at_ms"], unique=False)
    op.create_index("ix_tokens_holder", "tokens", ["promotion_id", "holder_jkt"], unique=False)
    op.create_index(op.f("ix_tokens_promotion_id"), "tokens", ["promotion_id"], unique=False)
    op.create_table(
        "transfers",
        sa.Column(
            "transfer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("debit", sa.String(length=340), nullable=False),
        sa.Column("credit", sa.String(length=340), nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("minor", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("reference", sa.String(length=120), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("uses >= 0 AND minor >= 0", name=op.f("ck_transfers_amounts")),
        sa.PrimaryKeyConstraint("transfer_id", name=op.f("pk_transfers")),
    )
    op.create_index(
        "ix_transfers_top_up",
        "transfers",
        ["promotion_id", "reference"],
        unique=False,
        sqlite_where=sa.text("reason = 'top_up'"),
        postgresql_where=sa.text("reason = 'top_up'"),
    )
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("holder_seed", sa.LargeBinary(), nullable=False),
        sa.Column("holder_jkt", sa.String(length=43), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["tenants.tenant_id"], name=op.f("fk_accounts_account_id")
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("holder_jkt", name=op.f("uq_accounts_holder_jkt")),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(length=26), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_api_keys_tenant_id")
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_tenant_id"), "api_keys", ["tenant_id"], unique=False)
    op.create_table(
        "frame_offers",
        sa.Column("frame_id", sa.String(length=80), nullable=False),
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("offer_id", sa.String(length=100), nullable=False),
        sa.Column("terms_digest", sa.String(length=80), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["frame_id"], ["frames.frame_id"], name=op.f("fk_frame_offers_frame_id")
        ),
        sa.PrimaryKeyConstraint("frame_id", "promotion_id", name=op.f("pk_frame_offers")),
    )
    op.create_index("ix_frame_offers_promotion", "frame_offers", ["promotion_id"], unique=False)
    op.create_table(
        "frame_resources",
        sa.Column("frame_id", sa.String(length=80), nullable=False),
        sa.Column("path", sa.String(length=300), nullable=False),
        sa.Column("media_type", sa.String(length=100), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["frame_id"], ["frames.frame_id"], name=op.f("fk_frame_resources_frame_id")
        ),
        sa.PrimaryKeyConstraint("frame_id", "path", name=op.f("pk_frame_resources")),
    )
    op.create_table(
        "peers",
        sa.Column("url", sa.String(length=300), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("jwks", sa.LargeBinary(), nullable=True),
        sa.Column("jwks_fetched_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("incarnation", sa.String(length=26), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('hub', 'merchant', 'wallet')", name=op.f("ck_peers_kind")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_peers_tenant_id")
        ),
        sa.PrimaryKeyConstraint("url", name=op.f("pk_peers")),
    )
    op.create_table(
        "promotions",
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("hub", sa.String(length=300), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("is_accepted", sa.Boolean(), nullable=False),
        sa.Column("terms_digest", sa.String(length=80), nullable=False),
        sa.Column("circulation", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("changed_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "status IN ('draft', 'active', 'paused', 'ended')", name=op.f("ck_promotions_status")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_promotions_tenant_id")
        ),
        sa.PrimaryKeyConstraint("promotion_id", name=op.f("pk_promotions")),
    )
    op.create_index(op.f("ix_promotions_tenant_id"), "promotions", ["tenant_id"], unique=False)
    op.create_table(
        "reversals",
        sa.Column("order_id", sa.String(length=100), nullable=False),
        sa.Column("reversal_id", sa.String(length=100), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("reply", sa.LargeBinary(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.order_id"], name=op.f("fk_reversals_order_id")
        ),
        sa.PrimaryKeyConstraint("order_id", "reversal_id", name=op.f("pk_reversals")),
    )
    op.create_table(
        "acceptances",
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("merchant", sa.String(length=300), nullable=False),
        sa.Column("accepted_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["promotion_id"], ["promotions.promotion_id"], name=op.f("fk_acceptances_promotion_id")
        ),
        sa.PrimaryKeyConstraint("promotion_id", "merchant", name=op.f("pk_acceptances")),
    )
    op.create_table(
        "budgets",
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("cap_uses", sa.BigInteger(), nullable=False),
        sa.Column("free_uses", sa.BigInteger(), nullable=False),
        sa.Column("open_uses", sa.BigInteger(), nullable=False),
        sa.Column("spent_uses", sa.BigInteger(), nullable=False),
        sa.Column("written_off_uses", sa.BigInteger(), nullable=False),
        sa.Column("cap_minor", sa.BigInteger(), nullable=False),
        sa.Column("free_minor", sa.BigInteger(), nullable=False),
        sa.Column("open_minor", sa.BigInteger(), nullable=False),
        sa.Column("spent_minor", sa.BigInteger(), nullable=False),
        sa.Column("written_off_minor", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "cap_minor = free_minor + open_minor + spent_minor + written_off_minor",
            name=op.f("ck_budgets_cap_minor"),
        ),
        sa.CheckConstraint(
            "cap_uses = free_uses + open_uses + spent_uses + written_off_uses",
            name=op.f("ck_budgets_cap_uses"),
        ),
        sa.CheckConstraint("free_minor >= 0", name=op.f("ck_budgets_free_minor")),
        sa.CheckConstraint("free_uses >= 0", name=op.f("ck_budgets_free_uses")),
        sa.CheckConstraint("open_minor >= 0", name=op.f("ck_budgets_open_minor")),
        sa.CheckConstraint("open_uses >= 0", name=op.f("ck_budgets_open_uses")),
        sa.CheckConstraint("spent_minor >= 0", name=op.f("ck_budgets_spent_minor")),
        sa.CheckConstraint("spent_uses >= 0", name=op.f("ck_budgets_spent_uses")),
        sa.CheckConstraint("written_off_minor >= 0", name=op.f("ck_budgets_written_off_minor")),
        sa.CheckConstraint("written_off_uses >= 0", name=op.f("ck_budgets_written_off_uses")),
        sa.ForeignKeyConstraint(
            ["promotion_id"], ["promotions.promotion_id"], name=op.f("fk_budgets_promotion_id")
        ),
        sa.PrimaryKeyConstraint("promotion_id", name=op.f("pk_budgets")),
    )
    op.create_table(
        "clips",
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("clip_id", sa.String(length=100), nullable=False),
        sa.Column("hub", sa.String(length=300), nullable=False),
        sa.Column("frame_id", sa.String(length=80), nullable=True),
        sa.Column("promotion_id", sa.String(length=100), nullable=True),
        sa.Column("said_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("access_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("token_id", sa.String(length=26), nullable=True),
        sa.CheckConstraint(
            "step IN ('begun', 'shown', 'authorized', 'issued')", name=op.f("ck_clips_step")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_clips_account_id")
        ),
        sa.PrimaryKeyConstraint("account_id", "clip_id", name=op.f("pk_clips")),
    )
    op.create_table(
        "terms",
        sa.Column("terms_digest", sa.String(length=80), nullable=False),
        sa.Column("promotion_id", sa.String(length=100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["promotion_id"], ["promotions.promotion_id"], name=op.f("fk_terms_promotion_id")
        ),
        sa.PrimaryKeyConstraint("terms_digest", name=op.f("pk_terms")),
        sa.UniqueConstraint("promotion_id", "version", name=op.f("uq_terms_promotion_id_version")),
    )


def downgrade() -> None:
    op.drop_table("terms")
    op.drop_table("clips")
    op.drop_table("budgets")
    op.drop_table("acceptances")
    op.drop_table("reversals")
    op.drop_index(op.f("ix_promotions_tenant_id"), table_name="promotions")
    op.drop_table("promotions")
    op.drop_table("peers")
    op.drop_table("frame_resources")
    op.drop_index("ix_frame_offers_promotion", table_name="frame_offers")
    op.drop_table("frame_offers")
    op.drop_index(op.f("ix_api_keys_tenant_id"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("accounts")
    op.drop_index(
        "ix_transfers_top_up",
        table_name="transfers",
        sqlite_where=sa.text("reason = 'top_up'"),
        postgresql_where=sa.text("reason = 'top_up'"),
    )
    op.drop_table("transfers")
    op.drop_index(op.f("ix_tokens_promotion_id"), table_name="tokens")
    op.drop_index("ix_tokens_holder", table_name="tokens")
    op.drop_index("ix_tokens_account", table_name="tokens")
    op.drop_table("tokens")
    op.drop_table("tenants")
    op.drop_table("statistics")
    op.drop_table("refusal_statistics")
    op.drop_index(
        "uq_redemptions_token_use",
        table_name="redemptions",
        sqlite_where=sa.text("token_id IS NOT NULL AND state IN ('reserved', 'redeemed')"),
        postgresql_where=sa.text("token_id IS NOT NULL AND state IN ('reserved', 'redeemed')"),
    )
    op.drop_index(
        "uq_redemptions_order_promotion",
        table_name="redemptions",
        sqlite_where=sa.text("token_id IS NULL AND state IN ('reserved', 'redeemed')"),
        postgresql_where=sa.text("token_id IS NULL AND state IN ('reserved', 'redeemed')"),
    )
    op.drop_index(op.f("ix_redemptions_order_id"), table_name="redemptions")
    op.drop_table("redemptions")
    op.drop_table("receipts")
    op.drop_table("parked_events")
    op.drop_table("outbox_streams")
    op.drop_table("outbox")
    op.drop_index(
        "ix_orders_expiry",
        table_name="orders",
        sqlite_where=sa.text("state = 'reserved'"),
        postgresql_where=sa.text("state = 'reserved'"),
    )
    op.drop_index("ix_orders_at", table_name="orders")
    op.drop_table("orders")
    op.drop_table("journal")
    op.drop_table("inbox_streams")
    op.drop_table("inbox")
    op.drop_index("ix_idempotency_at", table_name="idempotency")
    op.drop_table("idempotency")
    op.drop_index("ix_frames_received", table_name="frames")
    op.drop_table("frames")
    op.drop_table("frame_sequences")
    op.drop_index("ix_coupon_information_subject", table_name="coupon_information")
    op.drop_table("coupon_information")
    op.drop_table("clients")
    op.drop_index("ix_allotments_promotion", table_name="allotments")
    op.drop_table("allotments")
