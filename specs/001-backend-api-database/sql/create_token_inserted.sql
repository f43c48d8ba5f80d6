INSERT INTO personal_tokens (id, user_id, name, scope, created_at, expires_at, last_used_at, hash)
VALUES (CAST($1 AS uuid),
        CAST($2 AS varchar),
        CAST($3 AS varchar),
        CAST($4 AS varchar),
        CAST($5 AS timestamp with time zone),
        CAST($6 AS timestamp with time zone),
        CAST($7 AS timestamp with time zone),
        CAST($8 AS bytea))
ON CONFLICT DO NOTHING
