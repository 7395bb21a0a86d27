CREATE TABLE IF NOT EXISTS inbox (id bigserial PRIMARY KEY, key text NOT NULL, body text NOT NULL,
                                  state text NOT NULL DEFAULT 'new', wamid text);
CREATE INDEX IF NOT EXISTS inbox_new ON inbox (id) WHERE state = 'new';
CREATE TABLE IF NOT EXISTS status (wamid text, status text, at bigint, PRIMARY KEY (wamid, status));
