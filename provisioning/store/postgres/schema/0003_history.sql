-- What happened to addresses. It only grows; a range is told as it was then, with the columns of ranges. Of two transactions that append
-- at once, the primary key lets one pass.
CREATE TABLE range_history (
  seq        bigint PRIMARY KEY CHECK (seq > 0),
  at         bigint NOT NULL,
  actor      text COLLATE "C" NOT NULL,
  action     text COLLATE "C" NOT NULL,
  owner_name text COLLATE "C" NOT NULL,
  range_id   bigint NOT NULL,
  kind       text COLLATE "C" NOT NULL,
  prefix     cidr NOT NULL,
  owner      text COLLATE "C" NOT NULL,
  purpose    text COLLATE "C" NOT NULL,
  label      text COLLATE "C",
  maps       cidr,
  note       text COLLATE "C" NOT NULL,
  created    bigint,
  until      bigint
);

CREATE INDEX range_history_prefix ON range_history USING gist (prefix inet_ops);

CREATE FUNCTION range_history_order() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  IF NEW.seq IS DISTINCT FROM (SELECT coalesce(max(seq), 0) + 1 FROM range_history) THEN
    RAISE EXCEPTION 'an entry stands behind the last one' USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER range_history_order BEFORE INSERT ON range_history FOR EACH ROW EXECUTE FUNCTION range_history_order();

CREATE TRIGGER range_history_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON range_history
FOR EACH STATEMENT EXECUTE FUNCTION refuse('the history is append-only');
