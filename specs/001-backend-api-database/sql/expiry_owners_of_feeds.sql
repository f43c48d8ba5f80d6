SELECT convert_to(feeds.user_id, 'UTF8') AS convert_to_1
FROM feeds
WHERE feeds.user_id > CAST($1 AS varchar)
ORDER BY feeds.user_id
LIMIT 100
