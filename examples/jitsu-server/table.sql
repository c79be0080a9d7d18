-- The columns that events fill. Jitsu makes the table itself, and adds a column for each new extra;
-- with this one made before, an event that was sent twice is stored once.
CREATE TABLE usage_events
(
    eventn_ctx_event_id String,
    _timestamp DateTime64(6),
    src Nullable(String),
    api_key Nullable(String),
    source_ip Nullable(String),
    action String,
    interface Nullable(String),
    error Nullable(String),
    user_id String,
    group_id Nullable(String),
    tool_name String,
    tool_version Nullable(String),
    os_name Nullable(String),
    os_version Nullable(String),
    python_version_major Nullable(Int64),
    python_version_minor Nullable(Int64),
    python_version_patch Nullable(Int64)
)
ENGINE = ReplacingMergeTree(_timestamp)
PARTITION BY toYYYYMM(_timestamp)
ORDER BY eventn_ctx_event_id;
