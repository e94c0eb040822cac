"""The one schema of all three servers: terms and statistics of promotions and of tokens.

The tables stand in the order of the river. Every server has all of them; what a server never
receives stays empty there. Instants are milliseconds since the epoch, money is minor units,
documents are kept as the bytes that were signed.

Constraints carry the promises that no code path may break: a balance never below zero, a budget
that sums up, a token use redeemed once. Keep each hot constraint on one promotion or one token,
so that a distributed PostgreSQL can shard on it.

    who         tenants, api_keys, peers, accounts, clients
    terms       promotions, terms, acceptances
    frames      frames, frame_sequences, frame_offers, frame_resources
    tokens      tokens, moves, clips, receipts, coupon_information; code_jobs, codes
    ledger      budgets, allotments, portions, allotment_requests, transfers, epochs
    checkouts   orders, redemptions, reversals
    limits      limit_counters, redemption_counters, redemption_parts
    journal     journal, statistics, refusal_statistics
    exchange    outbox_streams, outbox, inbox_streams, ended_streams, alarms, inbox, parked_events;
                idempotency
"""

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Instant = sa.BigInteger
_Count = sa.BigInteger
_Minor = sa.BigInteger
#: SQLite keeps a table in the order of such a key, without an index beside it.
_Sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _one_of(column: str, *values: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


def _counter(*, primary_key: bool = False) -> sa.Column[str]:
    """A counter of a limit that merchants share; empty: the promotion itself."""
    return sa.Column(
        "counter",
        sa.String(200),
        nullable=False,
        server_default=sa.text("''"),
        primary_key=primary_key,
    )


# --- who: tenants, keys, peers ----------------------------------------------------------------

tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("tenant_id", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("created_at_ms", _Instant, nullable=False),
    _one_of("kind", "operator", "brand", "merchant", "wallet", "account"),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("key_id", sa.String(26), primary_key=True),
    sa.Column("tenant_id", sa.ForeignKey("tenants.tenant_id"), nullable=False, index=True),
    sa.Column("secret_hash", sa.LargeBinary, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),  # space-separated, as in OAuth
    sa.Column("label", sa.String(200), nullable=False),
    sa.Column("created_at_ms", _Instant, nullable=False),
    sa.Column("revoked_at_ms", _Instant),
)

peers = sa.Table(
    "peers",
    metadata,
    sa.Column("url", sa.String(300), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("tenant_id", sa.ForeignKey("tenants.tenant_id"), nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("jwks", sa.LargeBinary),
    sa.Column("jwks_fetched_at_ms", _Instant),
    sa.Column("incarnation", sa.String(26)),
    sa.Column("created_at_ms", _Instant, nullable=False),
    _one_of("kind", "hub", "merchant", "wallet"),
)

accounts = sa.Table(
    "accounts",  # wallet: a shopper, with the key that holds this shopper's tokens
    metadata,
    sa.Column("account_id", sa.ForeignKey("tenants.tenant_id"), primary_key=True),
    sa.Column("holder_seed", sa.LargeBinary, nullable=False),
    sa.Column("holder_jkt", sa.String(43), nullable=False, unique=True),
    sa.Column("created_at_ms", _Instant, nullable=False),
)

clients = sa.Table(
    "clients",  # merchant: its own customer reference, proven to be the hub's pseudonym
    metadata,
    sa.Column("client_ref", sa.String(100), primary_key=True),
    sa.Column("hub", sa.String(300), primary_key=True),
    sa.Column("subject", sa.String(64), nullable=False),
    sa.Column("holder_jkt", sa.String(43), nullable=False),
    sa.Column("proven_at_ms", _Instant, nullable=False),
    sa.UniqueConstraint("hub", "subject"),
)

# --- terms ------------------------------------------------------------------------------------

promotions = sa.Table(
    "promotions",
    metadata,
    sa.Column("promotion_id", sa.String(100), primary_key=True),
    sa.Column("tenant_id", sa.ForeignKey("tenants.tenant_id"), nullable=False, index=True),
    sa.Column("hub", sa.String(300)),  # null: this server promises it itself
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("is_accepted", sa.Boolean, nullable=False),  # merchant: takes part in it
    sa.Column("terms_digest", sa.String(80), nullable=False),  # the version in force
    sa.Column("circulation", _Count, nullable=False, server_default="0"),  # hub: tokens given out
    sa.Column("changed_at_ms", _Instant, nullable=False),
    _one_of("status", "draft", "active", "paused", "ended"),
)

terms = sa.Table(
    "terms",
    metadata,
    sa.Column("terms_digest", sa.String(80), primary_key=True),
    sa.Column("promotion_id", sa.ForeignKey("promotions.promotion_id"), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("created_at_ms", _Instant, nullable=False),
    sa.UniqueConstraint("promotion_id", "version"),
)

acceptances = sa.Table(
    "acceptances",  # hub: the merchants that take part in a promotion
    metadata,
    sa.Column("promotion_id", sa.ForeignKey("promotions.promotion_id"), primary_key=True),
    sa.Column("merchant", sa.String(300), primary_key=True),
    sa.Column("accepted_at_ms", _Instant, nullable=False),
)

# --- frames -----------------------------------------------------------------------------------

frames = sa.Table(
    "frames",
    metadata,
    sa.Column("frame_id", sa.String(80), primary_key=True),
    sa.Column("issuer", sa.String(300), nullable=False),
    sa.Column("audience", sa.String(300), nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("not_before_ms", _Instant, nullable=False),
    sa.Column("expires_at_ms", _Instant, nullable=False),
    sa.Column("manifest", sa.LargeBinary, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("received_at_ms", _Instant, nullable=False),
    sa.UniqueConstraint("issuer", "audience", "sequence"),
    sa.Index("ix_frames_received", "received_at_ms", "frame_id"),
    _one_of("status", "active", "withdrawn"),
)

frame_sequences = sa.Table(
    "frame_sequences",  # the highest sequence seen, of frames and withdrawals alike
    metadata,
    sa.Column("issuer", sa.String(300), primary_key=True),
    sa.Column("audience", sa.String(300), primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
)

frame_offers = sa.Table(
    "frame_offers",
    metadata,
    sa.Column("frame_id", sa.ForeignKey("frames.frame_id"), primary_key=True),
    sa.Column("promotion_id", sa.String(100), primary_key=True),
    sa.Column("offer_id", sa.String(100), nullable=False),
    sa.Column("terms_digest", sa.String(80), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Index("ix_frame_offers_promotion", "promotion_id"),
)

frame_resources = sa.Table(
    "frame_resources",
    metadata,
    sa.Column("frame_id", sa.ForeignKey("frames.frame_id"), primary_key=True),
    sa.Column("path", sa.String(300), primary_key=True),
    sa.Column("media_type", sa.String(100), nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)

# --- tokens -----------------------------------------------------------------------------------

tokens = sa.Table(
    "tokens",  # hub: issued; wallet: held
    metadata,
    sa.Column("token_id", sa.String(26), primary_key=True),
    sa.Column("clip_id", sa.String(100), nullable=False),
    sa.Column("promotion_id", sa.String(100), nullable=False, index=True),
    sa.Column("terms_digest", sa.String(80), nullable=False),
    sa.Column("frame_id", sa.String(80), nullable=False),
    sa.Column("hub", sa.String(300), nullable=False),
    sa.Column("merchant", sa.String(300), nullable=False),
    sa.Column("wallet", sa.String(300)),  # hub: the wallet server that took it, where registered
    sa.Column("account_id", sa.String(64)),  # wallet: whose it is
    sa.Column("subject", sa.String(64)),
    sa.Column("holder_jkt", sa.String(43)),
    sa.Column("handle", sa.String(24), unique=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("status_index", sa.BigInteger, unique=True),  # shard * 131072 + index
    sa.Column("jws", sa.Text),
    sa.Column("offer_code_hash", sa.LargeBinary),  # null once the code was used
    sa.Column("offer_expires_at_ms", _Instant),
    sa.Column("clipped_at_ms", _Instant, nullable=False),
    sa.Column("not_before_ms", _Instant),
    sa.Column("expires_at_ms", _Instant),
    sa.Column("uses", sa.Integer),  # hub: of a token that was moved; null: as the terms say
    sa.UniqueConstraint("wallet", "clip_id"),
    sa.Index("ix_tokens_account", "account_id", "clipped_at_ms"),
    sa.Index("ix_tokens_holder", "promotion_id", "holder_jkt"),
    _one_of("status", "offered", "lapsed", "issued", "redeemed", "revoked", "deleted", "moved"),
)

moves = sa.Table(
    "moves",  # hub, wallet: of a token to another merchant; merchant: what it has released
    metadata,
    sa.Column("token_id", sa.String(26), primary_key=True),
    sa.Column("move_id", sa.String(100), primary_key=True),
    sa.Column("merchant", sa.String(300)),  # where to; who releases a token is not told
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(64)),  # of a refusal
    sa.Column("uses", sa.Integer),  # that were moved
    sa.Column("successor_id", sa.String(26)),
    sa.Column("at_ms", _Instant, nullable=False),
    sa.Index(
        "uq_moves_pending",
        "token_id",
        unique=True,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    ),
    _one_of("state", "pending", "moved", "refused"),
)

clips = sa.Table(
    "clips",  # wallet: how far a clip has come; written before the hub is asked, so it can resume
    metadata,
    sa.Column("account_id", sa.ForeignKey("accounts.account_id"), primary_key=True),
    sa.Column("clip_id", sa.String(100), primary_key=True),
    sa.Column("hub", sa.String(300), nullable=False),
    sa.Column("frame_id", sa.String(80)),  # null: an offer of the hub, accepted by its address
    sa.Column("promotion_id", sa.String(100)),
    sa.Column("said_at_ms", _Instant),  # the instant that the caller gave, if any
    sa.Column("at_ms", _Instant, nullable=False),
    sa.Column("step", sa.String(16), nullable=False),
    sa.Column("access_sealed", sa.LargeBinary),  # the hub's access token, encrypted
    sa.Column("token_id", sa.String(26)),
    _one_of("step", "begun", "shown", "authorized", "issued"),
)

receipts = sa.Table(
    "receipts",  # wallet: what merchants signed about orders in which its tokens were used
    metadata,
    sa.Column("merchant", sa.String(300), primary_key=True),
    sa.Column("order_id", sa.String(100), primary_key=True),
    sa.Column("receipt", sa.Text, nullable=False),
    sa.Column("is_verified", sa.Boolean, nullable=False),  # by the merchant's keys, where known
)

coupon_information = sa.Table(
    "coupon_information",  # merchant: which client holds which token, told by the hub
    metadata,
    sa.Column("token_id", sa.String(26), primary_key=True),
    sa.Column("hub", sa.String(300), nullable=False),
    sa.Column("subject", sa.String(64), nullable=False),
    sa.Column("holder_jkt", sa.String(43), nullable=False),
    sa.Column("promotion_id", sa.String(100), nullable=False),
    sa.Column("terms_digest", sa.String(80), nullable=False),
    sa.Column("frame_id", sa.String(80), nullable=False),
    sa.Column("handle", sa.String(24), nullable=False, unique=True),
    sa.Column("uses", sa.Integer, nullable=False),
    sa.Column("uses_left", sa.Integer, nullable=False),  # reserved and redeemed uses are gone
    sa.Column("is_revoked", sa.Boolean, nullable=False),
    sa.Column("clipped_at_ms", _Instant, nullable=False),
    sa.Column("expires_at_ms", _Instant, nullable=False),
    sa.Column("received_at_ms", _Instant, nullable=False),
    sa.Column("is_control", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index("ix_coupon_information_subject", "hub", "subject"),
    sa.CheckConstraint("uses_left >= 0 AND uses_left <= uses", name="uses_left"),
)

code_jobs = sa.Table(
    "code_jobs",  # merchant: unique codes that are made here, or were imported, in one go
    metadata,
    sa.Column("promotion_id", sa.ForeignKey("promotions.promotion_id"), primary_key=True),
    sa.Column("job_id", sa.String(100), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False, unique=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("terms_digest", sa.String(80), nullable=False),  # what its codes promise
    sa.Column("prefix", sa.String(32), nullable=False),
    sa.Column("wanted", _Count, nullable=False),
    sa.Column("done", _Count, nullable=False),
    sa.Column("next_number", _Count, nullable=False),  # made: the next one to try
    sa.Column("content_hash", sa.LargeBinary, nullable=False),  # of the request
    sa.Column("created_at_ms", _Instant, nullable=False),
    sa.Column("finished_at_ms", _Instant),
    sa.CheckConstraint("done >= 0 AND done <= wanted AND done <= next_number", name="done"),
    _one_of("kind", "made", "imported"),
    _one_of("state", "running", "finished", "undone"),
)

codes = sa.Table(
    "codes",  # merchant: unique codes, never their text; each is one use
    metadata,
    sa.Column("code_hash", sa.LargeBinary, primary_key=True),
    # No foreign key: a million rows would each be checked against the one row of their job.
    sa.Column("job", sa.Integer, nullable=False),
    sa.Column("uses_left", sa.SmallInteger, nullable=False),
    sa.CheckConstraint("uses_left IN (0, 1)", name="uses_left"),
    sa.Index(
        "ix_codes_used",
        "job",
        sqlite_where=sa.text("uses_left = 0"),
        postgresql_where=sa.text("uses_left = 0"),
    ),
    sqlite_with_rowid=False,
)

# --- ledger: budgets and allotments -----------------------------------------------------------

budgets = sa.Table(
    "budgets",  # at whoever promises: cap = free + open + spent + written off
    metadata,
    sa.Column("promotion_id", sa.ForeignKey("promotions.promotion_id"), primary_key=True),
    sa.Column("cap_uses", _Count, nullable=False),
    sa.Column("free_uses", _Count, nullable=False),
    sa.Column("open_uses", _Count, nullable=False),
    sa.Column("spent_uses", _Count, nullable=False),
    sa.Column("written_off_uses", _Count, nullable=False),
    sa.Column("cap_minor", _Minor, nullable=False),
    sa.Column("free_minor", _Minor, nullable=False),
    sa.Column("open_minor", _Minor, nullable=False),
    sa.Column("spent_minor", _Minor, nullable=False),
    sa.Column("written_off_minor", _Minor, nullable=False),
    # A limit that merchants share has a budget for each of its counters; empty: the promotion's.
    _counter(primary_key=True),
    *(
        sa.CheckConstraint(f"{account}_{unit} >= 0", name=f"{account}_{unit}")
        for account in ("free", "open", "spent", "written_off")
        for unit in ("uses", "minor")
    ),
    *(
        sa.CheckConstraint(
            f"cap_{unit} = free_{unit} + open_{unit} + spent_{unit} + written_off_{unit}",
            name=f"cap_{unit}",
        )
        for unit in ("uses", "minor")
    ),
)

allotments = sa.Table(
    "allotments",  # granted (at the budget's side) and held (at the spender's side)
    metadata,
    sa.Column("allotment_id", sa.String(26), primary_key=True),
    sa.Column("promotion_id", sa.String(100), nullable=False),
    sa.Column("holder", sa.String(300), nullable=False),
    sa.Column("incarnation", sa.String(26), nullable=False),
    sa.Column("granted_uses", _Count, nullable=False),
    sa.Column("granted_minor", _Minor, nullable=False),
    sa.Column("left_uses", _Count, nullable=False),
    sa.Column("left_minor", _Minor, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_at_ms", _Instant, nullable=False),
    # The incarnation of whoever granted it; empty: granted before there were any.
    sa.Column("epoch", sa.String(26), nullable=False, server_default=sa.text("''")),
    # holder: it spends no more of it, and closes it when nothing is reserved from it any more
    sa.Column("is_closing", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("asked_at_ms", _Instant),  # hub: when the holder was last asked to close it
    sa.Column("proof", sa.Text),  # holder: the hub's signature under the grant
    _counter(),
    sa.Column("ends_at_ms", _Instant),  # holder: first instant after the period of the counter
    sa.Index("ix_allotments_promotion", "promotion_id", "counter", "holder", "state"),
    sa.CheckConstraint("left_uses >= 0 AND left_uses <= granted_uses", name="left_uses"),
    sa.CheckConstraint("left_minor >= 0 AND left_minor <= granted_minor", name="left_minor"),
    _one_of("state", "open", "closed", "written_off"),
)

portions = sa.Table(
    "portions",  # holder: what each of its processes took of an allotment, to spend it alone
    metadata,
    sa.Column("allotment_id", sa.ForeignKey("allotments.allotment_id"), primary_key=True),
    sa.Column("process", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("left_uses", _Count, nullable=False),
    sa.Column("left_minor", _Minor, nullable=False),
    sa.Column("spent_at_ms", _Instant, nullable=False),
    sa.CheckConstraint("left_uses >= 0", name="left_uses"),
    sa.CheckConstraint("left_minor >= 0", name="left_minor"),
)

allotment_requests = sa.Table(
    "allotment_requests",  # hub: merchants that were refused, for when something is free again
    metadata,
    sa.Column("promotion_id", sa.String(100), primary_key=True),
    sa.Column("merchant", sa.String(300), primary_key=True),
    sa.Column("needed_uses", _Count, nullable=False),
    sa.Column("needed_minor", _Minor, nullable=False),
    sa.Column("at_ms", _Instant, nullable=False),
    _counter(primary_key=True),
)

transfers = sa.Table(
    "transfers",  # double entry: every move of units between two accounts of one budget
    metadata,
    sa.Column("transfer_id", _Sequence, primary_key=True),
    sa.Column("promotion_id", sa.String(100), nullable=False),
    sa.Column("debit", sa.String(340), nullable=False),
    sa.Column("credit", sa.String(340), nullable=False),
    sa.Column("uses", _Count, nullable=False),
    sa.Column("minor", _Minor, nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("reference", sa.String(120), nullable=False),
    sa.Column("at_ms", _Instant, nullable=False),
    _counter(),
    sa.CheckConstraint("uses >= 0 AND minor >= 0", name="amounts"),
    # Checkouts append here: an index of all of it would cost each of them a page of its own.
    sa.Index(
        "ix_transfers_top_up",
        "promotion_id",
        "reference",
        sqlite_where=sa.text("reason = 'top_up'"),
        postgresql_where=sa.text("reason = 'top_up'"),
    ),
)

epochs = sa.Table(
    "epochs",  # hub: when it was restored from a backup, which may lack counters opened before
    metadata,
    sa.Column("epoch", sa.String(26), primary_key=True),
    sa.Column("began_at_ms", _Instant, nullable=False),
)

# --- checkouts: orders and what was redeemed in them ------------------------------------------

orders = sa.Table(
    "orders",  # merchant: one checkout, from reservation to receipt
    metadata,
    sa.Column("order_id", sa.String(100), primary_key=True),
    sa.Column("body_hash", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("client_ref", sa.String(100)),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("subtotal_minor", _Minor, nullable=False),
    sa.Column("shipping_minor", _Minor, nullable=False),
    sa.Column("discount_minor", _Minor, nullable=False),
    sa.Column("cart", sa.LargeBinary, nullable=False),  # a return needs both
    sa.Column("evaluation", sa.LargeBinary, nullable=False),
    sa.Column("kept", sa.LargeBinary),  # what is left after returns; null: everything
    sa.Column("receipt", sa.Text),
    sa.Column("at_ms", _Instant, nullable=False),
    sa.Column("expires_at_ms", _Instant),
    sa.Index("ix_orders_at", "at_ms"),
    sa.Index(
        "ix_orders_expiry",
        "expires_at_ms",
        sqlite_where=sa.text("state = 'reserved'"),
        postgresql_where=sa.text("state = 'reserved'"),
    ),
    _one_of("state", "reserved", "redeemed", "released", "expired", "refused"),
)

redemptions = sa.Table(
    "redemptions",  # one promotion used in one order; at the hub: as reported by its merchant
    metadata,
    sa.Column("redemption_id", sa.String(160), primary_key=True),
    sa.Column("order_id", sa.String(100), nullable=False, index=True),
    sa.Column("merchant", sa.String(300), nullable=False),
    sa.Column("promotion_id", sa.String(100), nullable=False),
    sa.Column("terms_digest", sa.String(80), nullable=False),
    sa.Column("token_id", sa.String(26)),
    sa.Column("use_number", sa.Integer),
    sa.Column("code", sa.String(100)),
    sa.Column("allotment_id", sa.String(26), nullable=False),
    sa.Column("amount_minor", _Minor, nullable=False),
    sa.Column("reversed_minor", _Minor, nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("dispute", sa.String(64)),  # hub: why it will not be paid
    sa.Column("at_ms", _Instant, nullable=False),
    sa.CheckConstraint(
        "amount_minor >= 0 AND reversed_minor >= 0 AND reversed_minor <= amount_minor",
        name="amounts",
    ),
    sa.Index(
        "uq_redemptions_token_use",
        "token_id",
        "use_number",
        unique=True,
        sqlite_where=sa.text("token_id IS NOT NULL AND state IN ('reserved', 'redeemed')"),
        postgresql_where=sa.text("token_id IS NOT NULL AND state IN ('reserved', 'redeemed')"),
    ),
    sa.Index(
        "uq_redemptions_order_promotion",
        "merchant",
        "order_id",
        "promotion_id",
        unique=True,
        sqlite_where=sa.text("token_id IS NULL AND state IN ('reserved', 'redeemed')"),
        postgresql_where=sa.text("token_id IS NULL AND state IN ('reserved', 'redeemed')"),
    ),
    sa.Index(
        "ix_redemptions_reserved",
        "allotment_id",
        sqlite_where=sa.text("state = 'reserved'"),
        postgresql_where=sa.text("state = 'reserved'"),
    ),
    _one_of("state", "reserved", "redeemed", "released", "expired", "reversed", "disputed"),
)

reversals = sa.Table(
    "reversals",  # merchant: what was taken back, once per id
    metadata,
    sa.Column("order_id", sa.ForeignKey("orders.order_id"), primary_key=True),
    sa.Column("reversal_id", sa.String(100), primary_key=True),
    sa.Column("body_hash", sa.LargeBinary, nullable=False),
    sa.Column("reply", sa.LargeBinary, nullable=False),
    sa.Column("at_ms", _Instant, nullable=False),
)

# --- limits: counters, and the parts of those that merchants share ----------------------------

limit_counters = sa.Table(
    "limit_counters",  # merchant: what was used under a limit by one shopper, store, … in a period
    metadata,
    sa.Column("promotion_id", sa.String(100), primary_key=True),
    sa.Column("counter", sa.String(43), primary_key=True),
    sa.Column("uses", _Count, nullable=False),
    sa.Column("minor", _Minor, nullable=False),
    sa.Column("ends_at_ms", _Instant),  # first instant after the period; null: it has none
    sa.Column("changed_at_ms", _Instant, nullable=False, server_default="0"),
    sa.Index("ix_limit_counters_ends_at", "ends_at_ms"),
    sa.CheckConstraint("uses >= 0 AND minor >= 0", name="amounts"),
)

redemption_counters = sa.Table(
    "redemption_counters",  # merchant: the counters that a redemption is in, until it is undone
    metadata,
    sa.Column("redemption_id", sa.String(160), primary_key=True),
    sa.Column("counter", sa.String(43), primary_key=True),
    sa.Column("promotion_id", sa.String(100), nullable=False),
    sa.Index("ix_redemption_counters_counter", "promotion_id", "counter"),
)

redemption_parts = sa.Table(
    "redemption_parts",  # the parts of shared counters that a redemption is taken from as well
    metadata,
    sa.Column("redemption_id", sa.String(160), primary_key=True),
    sa.Column("allotment_id", sa.String(26), primary_key=True),
    sa.Index("ix_redemption_parts_allotment", "allotment_id"),
)

# --- journal and statistics -------------------------------------------------------------------

journal = sa.Table(
    "journal",  # append-only, gapless, each entry chained to the one before by its hash
    metadata,
    sa.Column("sequence", _Sequence, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("promotion_id", sa.String(100), nullable=False),
    sa.Column("merchant", sa.String(300), nullable=False),
    sa.Column("at_ms", _Instant, nullable=False),
    sa.Column("entry", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)

statistics = sa.Table(
    "statistics",  # the fold of the journal; `sconto db recount` makes the same numbers again
    metadata,
    sa.Column("promotion_id", sa.String(100), primary_key=True),
    sa.Column("merchant", sa.String(300), primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True),
    *(
        sa.Column(name, _Count, nullable=False, server_default="0")
        for name in (
            "shown",
            "clipped",
            "presented",
            "applied",
            "redeemed",
            "reversed",
            "given_minor",
            "reversed_minor",
        )
    ),
)

refusal_statistics = sa.Table(
    "refusal_statistics",
    metadata,
    sa.Column("promotion_id", sa.String(100), primary_key=True),
    sa.Column("merchant", sa.String(300), primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("reason", sa.String(64), primary_key=True),
    sa.Column("refused", _Count, nullable=False),
)

# --- exchange with peers ----------------------------------------------------------------------

outbox_streams = sa.Table(
    "outbox_streams",
    metadata,
    sa.Column("destination", sa.String(300), primary_key=True),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
    sa.Column("acked_sequence", sa.BigInteger, nullable=False),
    # A stream that starts anew, after a restore, has a name of its own; the first has none.
    sa.Column("stream", sa.String(26), nullable=False, server_default=sa.text("''")),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("destination", sa.String(300), primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("event", sa.LargeBinary, nullable=False),
)

inbox_streams = sa.Table(
    "inbox_streams",
    metadata,
    sa.Column("source", sa.String(300), primary_key=True),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
    sa.Column("stream", sa.String(26), nullable=False, server_default=sa.text("''")),
)

ended_streams = sa.Table(
    "ended_streams",  # streams that gave way to a new one; nothing of them is taken any more
    metadata,
    sa.Column("source", sa.String(300), primary_key=True),
    sa.Column("stream", sa.String(26), primary_key=True),
)

alarms = sa.Table(
    "alarms",  # peers that know more of this server than it does: it was restored from a backup
    metadata,
    sa.Column("peer", sa.String(300), primary_key=True),
    sa.Column("code", sa.String(64), nullable=False),
    sa.Column("at_ms", _Instant, nullable=False),
)

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("source", sa.String(300), primary_key=True),
    sa.Column("event_id", sa.String(200), primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("received_at_ms", _Instant, nullable=False),
)

parked_events = sa.Table(
    "parked_events",  # poison: kept with its reason, while the stream goes on
    metadata,
    sa.Column("source", sa.String(300), primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("event", sa.LargeBinary, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("parked_at_ms", _Instant, nullable=False),
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("tenant_id", sa.String(64), primary_key=True),
    sa.Column("operation", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(128), primary_key=True),
    sa.Column("body_hash", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("reply", sa.LargeBinary, nullable=False),
    sa.Column("at_ms", _Instant, nullable=False),
    sa.Index("ix_idempotency_at", "at_ms"),
)
