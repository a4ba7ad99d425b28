-- Which of several gateways of a site is preferred, 0 for none, and where one is reached that is not at the site's endpoint.
ALTER TABLE nodes ADD COLUMN rank INTEGER NOT NULL DEFAULT 0 CHECK (rank BETWEEN 0 AND 99);
ALTER TABLE nodes ADD COLUMN endpoint TEXT NOT NULL DEFAULT '';
