-- What only SQLite says so.

-- tables.exists --
-- Whether anything has this name.
SELECT 1 FROM sqlite_master WHERE name = :name;

-- tables.key --
-- The key columns of a table.
SELECT name FROM pragma_table_info(:name) WHERE pk;
