WITH row AS (
         SELECT personal_tokens.id AS id
         FROM personal_tokens
         WHERE personal_tokens.user_id = CAST($1 AS varchar)
         LIMIT 1
         OFFSET 49
       )
  SELECT json_send(row_to_json(row)) AS json_send_1
  FROM row
