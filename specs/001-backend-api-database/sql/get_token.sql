WITH row AS (
         SELECT personal_tokens.id AS id,
                personal_tokens.user_id AS user_id,
                personal_tokens.name AS name,
                personal_tokens.scope AS scope,
                personal_tokens.created_at AS created_at,
                personal_tokens.expires_at AS expires_at,
                personal_tokens.last_used_at AS last_used_at
         FROM personal_tokens
         WHERE personal_tokens.user_id = CAST($1 AS varchar)
           AND personal_tokens.id = CAST($2 AS uuid)
       )
  SELECT json_send(row_to_json(row)) AS json_send_1
  FROM row
