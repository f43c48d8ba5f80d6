SELECT convert_to(personal_tokens.user_id, 'UTF8') AS convert_to_1
FROM personal_tokens
WHERE personal_tokens.user_id > CAST($1 AS varchar)
  AND personal_tokens.expires_at < CAST($2 AS timestamp with time zone)
ORDER BY personal_tokens.user_id
LIMIT 100
