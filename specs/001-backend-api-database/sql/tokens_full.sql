WITH row AS (
         SELECT personal_tokens.id AS id
         FROM personal_tokens
         WHERE personal_tokens.user_id = CAST($1 AS varchar)
         LIMIT 1
         OFFSET 49
       )
  SELECT row_to_json(row) AS row_to_json_1
  FROM row
