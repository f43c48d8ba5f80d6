WITH known AS (
         SELECT    EXISTS (SELECT changes.seq
                           FROM changes
                           WHERE changes.user_id = CAST($1 AS varchar)
                             AND changes.seq = CAST($2 AS bigint)
                             AND changes.at = CAST($3 AS timestamp with time zone))
                OR (CAST($4 AS bigint) = feed_epoch()
                AND (EXISTS (SELECT changes.seq
                             FROM changes
                             WHERE changes.user_id = CAST($1 AS varchar)
                               AND changes.seq = CAST($2 AS bigint) + 1)
                  OR (COALESCE((SELECT feeds.seq
                                FROM feeds
                                WHERE feeds.user_id = CAST($1 AS varchar)),
                               0) = CAST($2 AS bigint)
                  AND NOT EXISTS (SELECT changes.seq
                                  FROM changes
                                  WHERE changes.user_id = CAST($1 AS varchar)
                                    AND changes.seq > CAST($2 AS bigint))))) AS is_known
       ),
     log AS (
         SELECT changes.seq AS seq,
                CAST(EXTRACT(EPOCH FROM changes.at) * 1000000 AS bigint) AS at,
                changes.task_id AS task_id
         FROM changes
         WHERE changes.user_id = CAST($1 AS varchar)
           AND (SELECT known.is_known
                FROM known)
           AND changes.seq > CAST($2 AS bigint)
         ORDER BY changes.seq
         LIMIT 2000
       ),
     page AS (
         SELECT log.task_id AS task_id, max(log.seq) AS seq
         FROM log
         GROUP BY log.task_id
         ORDER BY seq
         LIMIT CAST($5 AS bigint)
       ),
     row AS (
         SELECT json_send(COALESCE(row_to_json(task),
                                   json_build_object('id', page.task_id, 'deleted', TRUE))) AS state
         FROM page
              LEFT JOIN LATERAL (SELECT tasks.id AS id,
                                        tasks.user_id AS user_id,
                                        tasks.title AS title,
                                        tasks.description AS description,
                                        tasks.completed AS completed,
                                        tasks.priority AS priority,
                                        tasks.tags AS tags,
                                        tasks.all_day AS all_day,
                                        tasks.completed_at AS completed_at,
                                        tasks.due_date AS due_date,
                                        tasks.created_at AS created_at,
                                        tasks.updated_at AS updated_at,
                                        CASE
                                          WHEN jsonb_typeof(tasks.further) = 'object'
                                            THEN tasks.further - CAST('{id,user_id,title,description,completed,priority,tags,all_day,completed_at,due_date,created_at,updated_at}' AS text[])
                                        END AS further
                                 FROM tasks
                                 WHERE tasks.user_id = CAST($1 AS varchar)
                                   AND tasks.id BETWEEN page.task_id AND page.task_id
                                 ORDER BY tasks.id
                                 LIMIT 1) AS task ON TRUE
         ORDER BY page.seq
       ),
     "end" AS (
         SELECT log.seq AS seq, log.at AS at
         FROM log
         WHERE log.seq = (SELECT max(page.seq) AS max_1
                          FROM page)
       )
  SELECT row.state
  FROM row

  UNION ALL

  SELECT json_send(json_build_array(known.is_known,
                                    "end".seq,
                                    "end".at,
                                    EXISTS (SELECT changes.seq
                                            FROM changes
                                            WHERE changes.user_id = CAST($1 AS varchar)
                                              AND changes.seq > "end".seq))) AS json_send_1
  FROM known LEFT JOIN "end" ON TRUE
