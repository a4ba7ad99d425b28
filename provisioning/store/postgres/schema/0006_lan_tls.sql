-- How the LAN of a site is protected: an object in JSON, or null for cleartext only. Nothing is asked of it here.
ALTER TABLE sites ADD COLUMN lan_tls text COLLATE "C" NOT NULL DEFAULT 'null';
