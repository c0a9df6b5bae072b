-- What only PostgreSQL says so.

-- tables.exists --
-- Whether anything in our schema has this name.
SELECT 1 FROM pg_class
WHERE relname = :name AND relnamespace = to_regnamespace(quote_ident(current_schema()));

-- tables.key --
-- The key columns of a table in our schema.
SELECT a.attname FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indrelid
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE c.relname = :name AND c.relnamespace = to_regnamespace(quote_ident(current_schema()))
  AND i.indisprimary;

-- postgres.ready --
-- Whether the store was made in our schema: its last table is there.
SELECT 1 FROM pg_class
WHERE relname = 'playhead__diff'
  AND relnamespace = to_regnamespace(quote_ident(current_schema()));

-- postgres.lock_schema --
-- Let one process at a time make the store: CREATE … IF NOT EXISTS does not wait for another.
SELECT pg_advisory_xact_lock(7309945311);

-- postgres.session --
-- What every session of ours relies on.
SELECT set_config('search_path', :search_path, false), set_config('TimeZone', 'UTC', false),
  set_config('extra_float_digits', '1', false), set_config('lock_timeout', :lock_timeout, false),
  set_config('DateStyle', 'ISO', false), set_config('bytea_output', 'hex', false),
  CASE WHEN current_setting('synchronous_commit') = 'off'
    THEN set_config('synchronous_commit', 'on', false) END;
