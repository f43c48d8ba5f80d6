DELETE FROM personal_tokens
WHERE personal_tokens.user_id = ANY(CAST($1 AS text[]))
  AND personal_tokens.expires_at < CAST($2 AS timestamp with time zone)
RETURNING 1
