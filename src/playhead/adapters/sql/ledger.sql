-- Cursors, generations, leases. The order of row locks is: lease, cursor, version, meta.

-- ledger.standings --
-- Where a version stands, by partition.
SELECT partition, next, generation, batch, epoch, start, topic_id, records, dead
FROM playhead__cursor WHERE version = :version ORDER BY partition;

-- ledger.generations --
-- Every generation of every partition, oldest first.
SELECT partition, number, start, gap_from, upstream
FROM playhead__generation WHERE version = :version ORDER BY partition, number;

-- ledger.insert_cursor --
-- The row of a first start; nothing where there is one.
INSERT INTO playhead__cursor
  (version, topic, partition, topic_id, next, generation, batch, epoch, start, records, dead)
VALUES
  (:version, :topic, :partition, :topic_id, :next, :generation, :batch, :epoch, :next, 0, 0)
ON CONFLICT (version, topic, partition) DO NOTHING;

-- ledger.compare_and_set --
-- Move a cursor that is where the move says; where a generation begins the counters begin anew.
UPDATE playhead__cursor SET
  next = :after_next, generation = :after_generation, batch = :after_batch,
  topic_id = coalesce(nullif(:topic_id, ''), topic_id),
  records = CASE WHEN :fresh THEN 0 ELSE records END + :records,
  dead = CASE WHEN :fresh THEN 0 ELSE dead END + :dead
WHERE version = :version AND topic = :topic AND partition = :partition
  AND next = :next AND generation = :generation AND batch = :batch AND epoch = :epoch;

-- ledger.counts --
-- The counters of a cursor row that is where somebody says; locked until the transaction ends.
SELECT records, dead FROM playhead__cursor
WHERE version = :version AND topic = :topic AND partition = :partition
  AND next = :next AND generation = :generation AND batch = :batch AND epoch = :epoch
{for_update};

-- ledger.insert_generation --
-- A generation of a partition begins.
INSERT INTO playhead__generation
  (version, topic, partition, number, start, gap_from, upstream, begun_at, why)
VALUES
  (:version, :topic, :partition, :number, :start, :gap_from, :upstream, :begun_at, :why);

-- ledger.stage --
-- The stage of a version, or of an epoch of a public topic.
SELECT stage FROM playhead__version WHERE pipeline = :pipeline AND label = :label
UNION ALL
SELECT stage FROM playhead__epoch WHERE publisher = :pipeline AND label = :label;

-- lease.lock --
-- The epoch of a lease, which nobody changes until the transaction ends.
SELECT epoch FROM playhead__lease WHERE name = :name {for_update};

-- lease.insert --
-- The row of a lease that was never taken, so that it can be locked.
INSERT INTO playhead__lease (name, epoch, owner, expires_s, note)
VALUES (:name, 0, :owner, 0, '') ON CONFLICT (name) DO NOTHING;

-- lease.take --
-- Take a lease, whoever has it: epoch + 1.
UPDATE playhead__lease SET epoch = epoch + 1, owner = :owner, note = :note,
  expires_s = {now_s} + :for_s
WHERE name = :name RETURNING epoch;

-- lease.stamp --
-- Write the epoch of a partition's lease to its cursor row.
UPDATE playhead__cursor SET epoch = :epoch
WHERE version = :version AND topic = :topic AND partition = :partition;

-- lease.renew --
-- Extend a lease that is still ours and was not given back.
UPDATE playhead__lease SET expires_s = {now_s} + :for_s
WHERE name = :name AND epoch = :epoch AND expires_s > 0;

-- lease.answer --
-- A note of somebody else on a lease that is in force.
UPDATE playhead__lease SET note = :note
WHERE name = :name AND epoch = :epoch AND expires_s > {now_s};

-- lease.release --
-- Give a lease back if it is still ours; the epoch stays.
UPDATE playhead__lease SET expires_s = 0 WHERE name = :name AND epoch = :epoch;

-- lease.look --
-- A lease that was not given back, and whether it has expired.
SELECT epoch, owner, expires_s > {now_s}, note FROM playhead__lease
WHERE name = :name AND expires_s > 0;
