WITH row AS (
         SELECT personal_tokens.id AS id,
                personal_tokens.scope AS scope,
                personal_tokens.expires_at AS expires_at,
                EXTRACT(EPOCH FROM personal_tokens.expires_at - now()) AS seconds_left,
                   personal_tokens.last_used_at IS NULL
                OR personal_tokens.last_used_at + CAST('1 hour' AS interval) < now() AS is_unnoted
         FROM personal_tokens
         WHERE personal_tokens.user_id = CAST($1 AS varchar)
           AND personal_tokens.hash = CAST($2 AS bytea)
       )
  SELECT row_to_json(sent) AS json
  FROM row
       INNER JOIN LATERAL (SELECT row.id AS id,
                                  row.scope AS scope,
                                  CASE
                                    WHEN row.expires_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.expires_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.expires_at) #>> '{}'
                                    ELSE to_char(row.expires_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS expires_at,
                                  row.seconds_left AS seconds_left,
                                  row.is_unnoted AS is_unnoted) AS sent ON TRUE
