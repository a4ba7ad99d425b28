-- What few grants have, as for services.
ALTER TABLE grants ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
