-- Messages of boxes to one another about their preshared keys, sealed by the boxes. The newest of each direction is kept.
CREATE TABLE pair_mail (
  recipient TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
  sender    TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
  id        TEXT NOT NULL,
  body      BLOB NOT NULL,
  posted    INTEGER NOT NULL,
  PRIMARY KEY (recipient, sender)
) STRICT, WITHOUT ROWID;
CREATE INDEX pair_mail_sender ON pair_mail (sender);
CREATE INDEX pair_mail_posted ON pair_mail (posted);
