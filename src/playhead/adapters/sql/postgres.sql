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

-- foreign.columns --
-- The columns of a table or view of anybody's, in order.
SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relname = :name AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- foreign.tables --
-- The tables and views that we may see, ours aside.
SELECT schemaname, tablename FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND tablename NOT LIKE 'playhead\_\_%%'
UNION SELECT schemaname, viewname FROM pg_views
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2;
