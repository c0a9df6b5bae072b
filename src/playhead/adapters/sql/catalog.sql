-- Versions and pointers. Views and the tables of results are sql_tables.py's.

-- catalog.lock --
-- Let one process at a time change the catalog.
SELECT value FROM playhead__meta WHERE key = 'format' {for_update};

-- catalog.versions --
-- Every recorded version, in the order of recording.
SELECT stage, content FROM playhead__version ORDER BY seq;

-- catalog.recorded --
-- What tells a version from one of the same name that was removed.
SELECT pipeline, label, seq, recorded_at FROM playhead__version;

-- catalog.insert_version --
-- Record a version.
INSERT INTO playhead__version (pipeline, label, stage, content, recorded_at)
VALUES (:pipeline, :label, :stage, :content, :recorded_at);

-- catalog.update_version --
-- Change what is recorded of a version.
UPDATE playhead__version SET stage = :stage, content = :content
WHERE pipeline = :pipeline AND label = :label;

-- catalog.insert_pointer --
-- The pointer of a pipeline's first live version.
INSERT INTO playhead__pointer (pipeline, label, epoch, previous)
VALUES (:pipeline, :label, 1, NULL);

-- catalog.pointer --
-- The pointer of a pipeline.
SELECT label, epoch, previous FROM playhead__pointer WHERE pipeline = :pipeline;

-- catalog.move_pointer --
-- Point at another version, if the pointer is where the swap says.
UPDATE playhead__pointer SET label = :head, previous = label, epoch = epoch + 1
WHERE pipeline = :pipeline AND label = :base AND epoch = :epoch;

-- catalog.cursors --
-- Where every version stands.
SELECT version, partition, next, generation, batch
FROM playhead__cursor ORDER BY version, partition;

-- catalog.lock_cursors --
-- Where a version stands, and nobody moves it until the transaction ends.
SELECT partition, next, generation, batch
FROM playhead__cursor WHERE version = :version ORDER BY topic, partition {for_update};

-- catalog.forget_version --
-- A version is recorded no more.
DELETE FROM playhead__version WHERE pipeline = :pipeline AND label = :label;

-- catalog.forget_cursor --
-- Where it stood.
DELETE FROM playhead__cursor WHERE version = :version;

-- catalog.forget_generation --
-- Its generations.
DELETE FROM playhead__generation WHERE version = :version;

-- catalog.forget_past --
-- Its deltas and snapshots.
DELETE FROM playhead__past WHERE version = :version;

-- catalog.forget_dead_letter --
-- Its dead letters.
DELETE FROM playhead__dead_letter WHERE version = :version;

-- catalog.forget_skip --
-- What was to be skipped of it.
DELETE FROM playhead__skip WHERE version = :version;

-- catalog.forget_lease --
-- The leases of its partitions.
DELETE FROM playhead__lease WHERE substr(name, 1, length(:begin)) = :begin;
