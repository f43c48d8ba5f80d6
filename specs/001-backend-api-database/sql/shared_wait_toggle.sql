WITH locked AS (
         SELECT asked.id AS id, asked.user_id AS user_id, found.ctid AS ctid, seen.ctid AS place
         FROM (SELECT asked.id AS id, asked.user_id AS user_id
               FROM json_to_recordset(CAST($1 AS pg_catalog.json)) AS asked(id uuid,
                                                                            user_id varchar(255))
               ORDER BY asked.id) AS asked
              INNER JOIN LATERAL (SELECT ctid
                                  FROM tasks
                                  WHERE tasks.user_id = asked.user_id AND tasks.id = asked.id
                                  FOR UPDATE) AS found ON TRUE
              INNER JOIN LATERAL (SELECT ctid
                                  FROM tasks
                                  WHERE tasks.user_id = asked.user_id AND tasks.id = asked.id
                                  LIMIT 1) AS seen ON TRUE
         WHERE TRUE
       ),
     updated AS (
         UPDATE tasks
         SET completed = NOT tasks.completed, updated_at = GREATEST(tasks.updated_at, now())
         FROM locked
         WHERE tasks.user_id = locked.user_id
           AND tasks.id = locked.id
           AND tasks.ctid = ANY(array_cat(ARRAY(SELECT locked.ctid
                                                FROM locked
                                                WHERE TRUE),
                                          ARRAY(SELECT locked.place
                                                FROM locked
                                                WHERE TRUE)))
         RETURNING tasks.id,
                   tasks.user_id,
                   tasks.title,
                   tasks.description,
                   tasks.completed,
                   tasks.priority,
                   tasks.due_date,
                   tasks.tags,
                   tasks.created_at,
                   tasks.updated_at
       )
  SELECT updated.user_id,
         updated.id,
         CASE
           WHEN updated.created_at = CAST(updated.created_at AS timestamp(5) with time zone)
             OR updated.updated_at = CAST(updated.updated_at AS timestamp(5) with time zone)
             THEN row_to_json(padded)
           ELSE row_to_json(sent)
         END AS anon_1
  FROM updated
       INNER JOIN LATERAL (SELECT updated.id AS id,
                                  updated.user_id AS user_id,
                                  updated.title AS title,
                                  updated.description AS description,
                                  updated.completed AS completed,
                                  updated.priority AS priority,
                                  CASE
                                    WHEN updated.due_date < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR updated.due_date = CAST('infinity' AS timestamptz)
                                      THEN to_json(updated.due_date) #>> '{}'
                                    ELSE to_char(updated.due_date, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS due_date,
                                  updated.tags AS tags,
                                  updated.created_at AS created_at,
                                  updated.updated_at AS updated_at) AS sent ON TRUE
       INNER JOIN LATERAL (SELECT updated.id AS id,
                                  updated.user_id AS user_id,
                                  updated.title AS title,
                                  updated.description AS description,
                                  updated.completed AS completed,
                                  updated.priority AS priority,
                                  CASE
                                    WHEN updated.due_date < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR updated.due_date = CAST('infinity' AS timestamptz)
                                      THEN to_json(updated.due_date) #>> '{}'
                                    ELSE to_char(updated.due_date, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS due_date,
                                  updated.tags AS tags,
                                  CASE
                                    WHEN updated.created_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR updated.created_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(updated.created_at) #>> '{}'
                                    ELSE to_char(updated.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS created_at,
                                  CASE
                                    WHEN updated.updated_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR updated.updated_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(updated.updated_at) #>> '{}'
                                    ELSE to_char(updated.updated_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS updated_at) AS padded ON TRUE
