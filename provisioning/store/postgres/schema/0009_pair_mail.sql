-- Messages of boxes to one another about their preshared keys, sealed by the boxes. The newest of each direction is kept.
CREATE TABLE pair_mail (
  recipient text COLLATE "C" NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
  sender    text COLLATE "C" NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
  id        text COLLATE "C" NOT NULL,
  body      bytea NOT NULL,
  posted    bigint NOT NULL,
  PRIMARY KEY (recipient, sender)
);
CREATE INDEX pair_mail_sender ON pair_mail (sender);
CREATE INDEX pair_mail_posted ON pair_mail (posted);
