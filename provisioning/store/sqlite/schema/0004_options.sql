-- What few services have: an object in JSON, see the code that reads it. A text, since nothing is asked of it here.
ALTER TABLE services ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
