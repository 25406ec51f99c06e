CREATE TABLE runware_provider_schema (
    version_num VARCHAR(32) NOT NULL, 
    CONSTRAINT runware_provider_schema_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

CREATE TABLE generations (
    id TEXT NOT NULL, 
    task_uuid TEXT NOT NULL, 
    version INTEGER NOT NULL, 
    status TEXT, 
    model TEXT, 
    width INTEGER, 
    height INTEGER, 
    expected INTEGER, 
    stored INTEGER, 
    failed INTEGER, 
    missing INTEGER, 
    cost_micros INTEGER, 
    error_code TEXT, 
    created_at TEXT NOT NULL, 
    dispatched_at TEXT, 
    completed_at TEXT, 
    deleted_at TEXT, 
    metadata TEXT, 
    output_errors TEXT, 
    prompt TEXT, 
    negative_prompt TEXT, 
    error TEXT, 
    input TEXT, 
    PRIMARY KEY (id)
);

CREATE TABLE artifacts (
    generation_id TEXT NOT NULL, 
    id TEXT NOT NULL, 
    "key" TEXT NOT NULL, 
    content_type TEXT NOT NULL, 
    size_bytes INTEGER NOT NULL, 
    sha256 TEXT NOT NULL, 
    width INTEGER NOT NULL, 
    height INTEGER NOT NULL, 
    seed INTEGER, 
    cost_micros INTEGER, 
    image_uuid TEXT NOT NULL, 
    created_at TEXT NOT NULL, 
    PRIMARY KEY (generation_id, id)
)
 WITHOUT ROWID;

CREATE TABLE generation_metadata (
    generation_id TEXT NOT NULL, 
    "key" TEXT NOT NULL, 
    value TEXT NOT NULL, 
    created_at TEXT NOT NULL, 
    PRIMARY KEY (generation_id, "key")
)
 WITHOUT ROWID;

CREATE INDEX ix_generations_created ON generations (created_at, id) WHERE deleted_at IS NULL;

CREATE INDEX ix_generations_status ON generations (status, created_at, id) WHERE deleted_at IS NULL;

CREATE INDEX ix_generations_model ON generations (model, created_at, id) WHERE deleted_at IS NULL;

CREATE INDEX ix_generations_status_model ON generations (status, model, created_at, id) WHERE deleted_at IS NULL;

CREATE INDEX ix_generation_metadata_label ON generation_metadata ("key", value, created_at, generation_id);

INSERT INTO runware_provider_schema (version_num) VALUES ('0001');

