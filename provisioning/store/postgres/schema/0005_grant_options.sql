-- What few grants have, as for services.
ALTER TABLE grants ADD COLUMN options text COLLATE "C" NOT NULL DEFAULT '{}';
