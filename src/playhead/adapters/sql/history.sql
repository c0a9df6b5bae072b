-- Deltas, snapshots, dead letters, skips.

-- history.saved --
-- Every delta and snapshot of a partition without its content, in the order of writing.
SELECT generation, batch, whole, begin, next, records, dead, length(content), at_s
FROM playhead__past WHERE version = :version AND partition = :partition
ORDER BY generation, batch, whole;

-- history.content --
-- The content of one.
SELECT content FROM playhead__past
WHERE version = :version AND partition = :partition
  AND generation = :generation AND batch = :batch AND whole = :whole;

-- history.put --
-- Write a delta or snapshot; one that is there is replaced.
INSERT INTO playhead__past
  (version, partition, generation, batch, whole, begin, next, records, dead, at_s, content)
VALUES
  (:version, :partition, :generation, :batch, :whole, :begin, :next, :records, :dead, {now_s},
   :content)
ON CONFLICT (version, partition, generation, batch, whole) DO UPDATE SET
  begin = excluded.begin, next = excluded.next, records = excluded.records, dead = excluded.dead,
  at_s = excluded.at_s, content = excluded.content;

-- history.forget --
-- Delete a delta or snapshot.
DELETE FROM playhead__past
WHERE version = :version AND partition = :partition
  AND generation = :generation AND batch = :batch AND whole = :whole;

-- history.insert_dead_letter --
-- A record that a batch set aside.
INSERT INTO playhead__dead_letter
  (version, topic, partition, generation, "offset", error, timestamp_ms, key, value, at)
VALUES
  (:version, :topic, :partition, :generation, :offset, :error, :timestamp_ms, :key, :value, :at);

-- history.dead_letters --
-- Every dead letter of every generation, by place, offset and generation.
SELECT topic, partition, "offset", generation, error, timestamp_ms, key, value
FROM playhead__dead_letter WHERE version = :version
ORDER BY topic, partition, "offset", generation;

-- history.put_skip --
-- A record is to be a dead letter whenever it is read.
INSERT INTO playhead__skip (version, topic, partition, "offset", reason, at)
VALUES (:version, :topic, :partition, :offset, :reason, :at)
ON CONFLICT (version, topic, partition, "offset") DO UPDATE SET
  reason = excluded.reason, at = excluded.at;

-- history.skips --
-- Every skip of a version.
SELECT partition, "offset", reason FROM playhead__skip WHERE version = :version;

-- history.drop_skips --
-- The topic was made again: its offsets mean other records.
DELETE FROM playhead__skip
WHERE version = :version AND topic = :topic AND partition = :partition;
