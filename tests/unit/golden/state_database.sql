-- 1
PRAGMA application_id = 1382119013;
CREATE TABLE credentials (
    id TEXT PRIMARY KEY NOT NULL CHECK (id = 'bot_credentials'),
    email TEXT NOT NULL,
    device_id TEXT NOT NULL,
    ssaid TEXT NOT NULL,
    parse_id TEXT NOT NULL,
    parse_token TEXT NOT NULL,
    auth_token TEXT NOT NULL,
    user_id INTEGER,
    updated_at INTEGER CHECK (updated_at BETWEEN 0 AND 253402300799999)
) STRICT;
CREATE TABLE admin_users (
    user_id INTEGER PRIMARY KEY NOT NULL CHECK (user_id > 0),
    added_by INTEGER NOT NULL CHECK (added_by >= 0),
    added_at INTEGER NOT NULL CHECK (added_at BETWEEN 0 AND 253402300799999),
    is_active INTEGER NOT NULL CHECK (is_active IN (0, 1))
) STRICT;
CREATE TABLE command_permissions (
    command_name TEXT PRIMARY KEY NOT NULL CHECK (command_name <> ''),
    requires_admin INTEGER NOT NULL CHECK (requires_admin IN (0, 1)),
    description TEXT NOT NULL,
    updated_at INTEGER NOT NULL CHECK (updated_at BETWEEN 0 AND 253402300799999),
    updated_by INTEGER NOT NULL CHECK (updated_by >= 0)
) STRICT;
-- 2
CREATE TABLE ignored_users (
    user_id INTEGER PRIMARY KEY NOT NULL CHECK (user_id > 0),
    added_by INTEGER NOT NULL CHECK (added_by >= 0),
    added_at INTEGER NOT NULL CHECK (added_at BETWEEN 0 AND 253402300799999)
) STRICT;
-- 3
CREATE TABLE room_documents (
    mesh_id TEXT NOT NULL CHECK (mesh_id <> ''),
    kind TEXT NOT NULL CHECK (kind IN ('document', 'history')),
    name TEXT NOT NULL CHECK (name <> ''),
    updated_at INTEGER NOT NULL CHECK (updated_at BETWEEN 0 AND 253402300799999),
    text TEXT NOT NULL,
    PRIMARY KEY (mesh_id, kind, name)
) STRICT;
