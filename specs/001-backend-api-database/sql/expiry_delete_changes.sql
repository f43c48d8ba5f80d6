DELETE FROM changes
WHERE changes.user_id = ANY(CAST($1 AS text[]))
  AND changes.at < CAST($2 AS timestamp with time zone)
  AND EXISTS (SELECT 1
              FROM changes AS next_change
              WHERE next_change.user_id = changes.user_id
                AND next_change.seq = changes.seq + 1
                AND next_change.at < CAST($2 AS timestamp with time zone))
RETURNING 1
