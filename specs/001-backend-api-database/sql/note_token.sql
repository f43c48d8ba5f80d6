WITH row AS (
         UPDATE personal_tokens
         SET last_used_at = now()
         WHERE personal_tokens.user_id = CAST($1 AS varchar)
           AND personal_tokens.id = CAST($2 AS uuid)
           AND (personal_tokens.last_used_at IS NULL
             OR now() - CAST('1 hour' AS interval) > personal_tokens.last_used_at)
         RETURNING personal_tokens.id
       )
  SELECT json_send(row_to_json(row)) AS json_send_1
  FROM row
