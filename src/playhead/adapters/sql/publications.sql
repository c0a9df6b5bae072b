-- Epochs of public topics, and the differences between them.

-- epochs.all --
-- Every row, in the order in which they began.
SELECT stage, content FROM playhead__epoch ORDER BY seq;

-- epochs.put --
-- Write a row; one that is there is changed.
INSERT INTO playhead__epoch (publisher, label, stage, content)
VALUES (:publisher, :label, :stage, :content)
ON CONFLICT (publisher, label) DO UPDATE SET
  stage = excluded.stage, content = excluded.content;

-- difference.put --
-- Keep one record of a difference.
INSERT INTO playhead__difference (name, partition, number, content)
VALUES (:name, :partition, :number, :content);

-- difference.some --
-- Records of a difference, from a number on.
SELECT content FROM playhead__difference
WHERE name = :name AND partition = :partition AND number >= :begin AND number < :end
ORDER BY number;

-- difference.forget --
-- A difference that was published, or is not needed any more.
DELETE FROM playhead__difference WHERE name = :name;
