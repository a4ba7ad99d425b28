-- Where the private key of a site's encrypted queues is kept; empty leaves it to the box.
ALTER TABLE sites ADD COLUMN spool_key text COLLATE "C" NOT NULL DEFAULT '' CHECK (spool_key IN ('', 'file', 'tpm', 'coordinator'));

-- The keys that boxes have left here, sealed to the coordinator's own key, which is not in the database.
CREATE TABLE spool_keys (
  node    text COLLATE "C" NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
  id      text COLLATE "C" NOT NULL,
  sealed  bytea NOT NULL,
  created bigint,
  PRIMARY KEY (node, id)
);
