-- The store's own tables. {words} are the dialect's (sql_database.py).

-- schema --
-- Every table that is missing.
CREATE TABLE IF NOT EXISTS playhead__meta (key {text} PRIMARY KEY, value {any});
CREATE TABLE IF NOT EXISTS playhead__version (
  seq {serial}, pipeline {text} NOT NULL, label {text} NOT NULL, stage {text} NOT NULL,
  content {blob} NOT NULL, recorded_at {text} NOT NULL, UNIQUE (pipeline, label));
CREATE TABLE IF NOT EXISTS playhead__pointer (
  pipeline {text} PRIMARY KEY, label {text} NOT NULL, epoch {int} NOT NULL, previous {text});
CREATE TABLE IF NOT EXISTS playhead__cursor (
  version {text}, topic {text}, partition {int}, topic_id {text} NOT NULL, next {int} NOT NULL,
  generation {int} NOT NULL, batch {int} NOT NULL, epoch {int} NOT NULL,
  start {int} NOT NULL, records {int} NOT NULL, dead {int} NOT NULL,
  PRIMARY KEY (version, topic, partition));
CREATE TABLE IF NOT EXISTS playhead__generation (
  version {text}, topic {text}, partition {int}, number {int}, start {int} NOT NULL,
  gap_from {int}, upstream {blob} NOT NULL, begun_at {text} NOT NULL, why {text} NOT NULL,
  PRIMARY KEY (version, topic, partition, number));
CREATE TABLE IF NOT EXISTS playhead__past (
  version {text}, partition {int}, generation {int}, batch {int}, whole {bool},
  begin {int} NOT NULL, next {int} NOT NULL, records {int} NOT NULL, dead {int} NOT NULL,
  at_s {real} NOT NULL, content {blob} NOT NULL,
  PRIMARY KEY (version, partition, generation, batch, whole));
CREATE TABLE IF NOT EXISTS playhead__dead_letter (
  version {text}, topic {text}, partition {int}, generation {int}, "offset" {int},
  error {text} NOT NULL, timestamp_ms {int} NOT NULL, key {blob}, value {blob}, at {text} NOT NULL,
  PRIMARY KEY (version, topic, partition, generation, "offset"));
CREATE TABLE IF NOT EXISTS playhead__skip (
  version {text}, topic {text}, partition {int}, "offset" {int}, reason {text} NOT NULL,
  at {text} NOT NULL, PRIMARY KEY (version, topic, partition, "offset"));
CREATE TABLE IF NOT EXISTS playhead__lease (
  name {text} PRIMARY KEY, epoch {int} NOT NULL, owner {blob} NOT NULL, expires_s {real} NOT NULL,
  note {text} NOT NULL);
CREATE TABLE IF NOT EXISTS playhead__run (
  seq {serial}, id {text} NOT NULL UNIQUE, kind {text} NOT NULL, subject {text} NOT NULL,
  intent {blob} NOT NULL, result {blob}, started_at {text} NOT NULL, finished_at {text});
CREATE TABLE IF NOT EXISTS playhead__audit (
  seq {serial}, at {text} NOT NULL, kind {text} NOT NULL, subject {text} NOT NULL,
  detail {blob} NOT NULL);
CREATE TABLE IF NOT EXISTS playhead__epoch (
  seq {serial}, publisher {text} NOT NULL, label {text} NOT NULL, stage {text} NOT NULL,
  content {blob} NOT NULL, UNIQUE (publisher, label));
CREATE TABLE IF NOT EXISTS playhead__difference (
  name {text}, partition {int}, number {int}, content {blob} NOT NULL,
  PRIMARY KEY (name, partition, number));
CREATE TABLE IF NOT EXISTS playhead__diff (digest {text} PRIMARY KEY, content {blob} NOT NULL);

-- meta.insert --
-- A fact of the whole store, unless it is there.
INSERT INTO playhead__meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO NOTHING;

-- meta.value --
-- One fact of the whole store.
SELECT value FROM playhead__meta WHERE key = :key;

-- meta.changed --
-- Raise the counter of changes.
UPDATE playhead__meta SET value = CAST(value AS {int}) + 1 WHERE key = 'changes';
