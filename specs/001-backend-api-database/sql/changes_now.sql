SELECT json_build_array(COALESCE(last.seq,
                                 (SELECT feeds.seq
                                  FROM feeds
                                  WHERE feeds.user_id = CAST($1 AS varchar)),
                                 0),
                        COALESCE(last.at, feed_epoch())) AS json_build_array_1
FROM (SELECT 1) AS "user"
     LEFT JOIN (SELECT changes.seq AS seq,
                       CAST(EXTRACT(EPOCH FROM changes.at) * 1000000 AS bigint) AS at
                FROM changes
                WHERE changes.user_id = CAST($1 AS varchar)
                ORDER BY changes.seq DESC
                LIMIT 1) AS last ON TRUE
