WITH row AS (
         SELECT personal_tokens.id AS id,
                personal_tokens.scope AS scope,
                personal_tokens.expires_at AS expires_at,
                EXTRACT(EPOCH FROM personal_tokens.expires_at - now()) AS seconds_left,
                   personal_tokens.last_used_at IS NULL
                OR now() - CAST('1 hour' AS interval) > personal_tokens.last_used_at AS is_unnoted
         FROM personal_tokens
         WHERE personal_tokens.user_id = CAST($1 AS varchar)
           AND personal_tokens.hash = CAST($2 AS bytea)
       )
  SELECT json_send(row_to_json(row)) AS json_send_1
  FROM row
