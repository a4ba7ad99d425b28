-- What operators have decided of a site's devices: a list in JSON, see the code that reads it.
ALTER TABLE sites ADD COLUMN devices TEXT NOT NULL DEFAULT '[]';
