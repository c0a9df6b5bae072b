-- Runs, the audit, diffs that were reviewed.

-- journal.put_diff --
-- Keep a reviewed diff.
INSERT INTO playhead__diff (digest, content) VALUES (:digest, :content)
ON CONFLICT (digest) DO UPDATE SET content = excluded.content;

-- journal.diff --
-- A reviewed diff.
SELECT content FROM playhead__diff WHERE digest = :digest;

-- journal.insert_run --
-- The intent of a run.
INSERT INTO playhead__run (id, kind, subject, intent, started_at)
VALUES (:id, :kind, :subject, :intent, :started_at);

-- journal.finish_run --
-- The result of a run.
UPDATE playhead__run SET result = :result, finished_at = :finished_at WHERE id = :id;

-- journal.runs --
-- Every run, oldest first.
SELECT id, kind, subject, intent, result, started_at, finished_at FROM playhead__run ORDER BY seq;

-- journal.audit --
-- Every line of the audit, oldest first.
SELECT at, kind, subject, detail FROM playhead__audit ORDER BY seq;

-- journal.note --
-- One line of the audit.
INSERT INTO playhead__audit (at, kind, subject, detail) VALUES (:at, :kind, :subject, :detail);
