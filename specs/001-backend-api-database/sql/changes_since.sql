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
         SELECT CASE
                  WHEN task.id IS NULL THEN json_build_object('id', page.task_id, 'deleted', TRUE)
                  ELSE CASE
                         WHEN task.created_at = CAST(task.created_at AS timestamp(5) with time zone)
                           OR task.updated_at = CAST(task.updated_at AS timestamp(5) with time zone)
                           THEN row_to_json(padded)
                         ELSE row_to_json(sent)
                       END
                END AS state
         FROM page
              LEFT JOIN LATERAL (SELECT tasks.id AS id,
                                        tasks.user_id AS user_id,
                                        tasks.title AS title,
                                        tasks.description AS description,
                                        tasks.completed AS completed,
                                        tasks.priority AS priority,
                                        tasks.due_date AS due_date,
                                        tasks.tags AS tags,
                                        tasks.created_at AS created_at,
                                        tasks.updated_at AS updated_at
                                 FROM tasks
                                 WHERE tasks.user_id = CAST($1 AS varchar)
                                   AND tasks.id = page.task_id) AS task ON TRUE
              INNER JOIN LATERAL (SELECT task.id AS id,
                                         task.user_id AS user_id,
                                         task.title AS title,
                                         task.description AS description,
                                         task.completed AS completed,
                                         task.priority AS priority,
                                         CASE
                                           WHEN task.due_date < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                             OR task.due_date = CAST('infinity' AS timestamptz)
                                             THEN to_json(task.due_date) #>> '{}'
                                           ELSE to_char(task.due_date, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                         END AS due_date,
                                         task.tags AS tags,
                                         task.created_at AS created_at,
                                         task.updated_at AS updated_at) AS sent ON TRUE
              INNER JOIN LATERAL (SELECT task.id AS id,
                                         task.user_id AS user_id,
                                         task.title AS title,
                                         task.description AS description,
                                         task.completed AS completed,
                                         task.priority AS priority,
                                         CASE
                                           WHEN task.due_date < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                             OR task.due_date = CAST('infinity' AS timestamptz)
                                             THEN to_json(task.due_date) #>> '{}'
                                           ELSE to_char(task.due_date, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                         END AS due_date,
                                         task.tags AS tags,
                                         CASE
                                           WHEN task.created_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                             OR task.created_at = CAST('infinity' AS timestamptz)
                                             THEN to_json(task.created_at) #>> '{}'
                                           ELSE to_char(task.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                         END AS created_at,
                                         CASE
                                           WHEN task.updated_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                             OR task.updated_at = CAST('infinity' AS timestamptz)
                                             THEN to_json(task.updated_at) #>> '{}'
                                           ELSE to_char(task.updated_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                         END AS updated_at) AS padded ON TRUE
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

  SELECT json_build_array(known.is_known,
                          "end".seq,
                          "end".at,
                          EXISTS (SELECT changes.seq
                                  FROM changes
                                  WHERE changes.user_id = CAST($1 AS varchar)
                                    AND changes.seq > "end".seq)) AS json_build_array_1
  FROM known LEFT JOIN "end" ON TRUE
