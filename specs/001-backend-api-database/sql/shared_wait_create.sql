WITH created AS (
         INSERT INTO tasks (id,
                            user_id,
                            title,
                            description,
                            completed,
                            priority,
                            due_date,
                            tags,
                            created_at,
                            updated_at)
         SELECT asked.id AS id,
                asked.user_id AS user_id,
                asked.title AS title,
                asked.description AS description,
                asked.completed AS completed,
                CAST(asked.priority AS task_priority) AS priority,
                asked.due_date AS due_date,
                asked.tags AS tags,
                asked.created_at AS created_at,
                asked.created_at AS created_at__1
         FROM (SELECT asked.id AS id,
                      asked.user_id AS user_id,
                      asked.title AS title,
                      asked.description AS description,
                      asked.completed AS completed,
                      asked.priority AS priority,
                      asked.due_date AS due_date,
                      asked.tags AS tags,
                      asked.created_at AS created_at,
                      asked.updated_at AS updated_at
               FROM json_to_recordset(CAST($1 AS pg_catalog.json)) AS asked(id uuid,
                                                                            user_id varchar(255),
                                                                            title varchar(500),
                                                                            description text,
                                                                            completed boolean,
                                                                            priority text,
                                                                            due_date timestamp with time zone,
                                                                            tags text[],
                                                                            created_at timestamp with time zone,
                                                                            updated_at timestamp with time zone)
               ORDER BY asked.id) AS asked
         WHERE TRUE
         ON CONFLICT DO NOTHING
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
  SELECT created.user_id,
         created.id,
         CASE
           WHEN created.created_at = CAST(created.created_at AS timestamp(5) with time zone)
             OR created.updated_at = CAST(created.updated_at AS timestamp(5) with time zone)
             THEN row_to_json(padded)
           ELSE row_to_json(sent)
         END AS anon_1
  FROM created
       INNER JOIN LATERAL (SELECT created.id AS id,
                                  created.user_id AS user_id,
                                  created.title AS title,
                                  created.description AS description,
                                  created.completed AS completed,
                                  created.priority AS priority,
                                  CASE
                                    WHEN created.due_date < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR created.due_date = CAST('infinity' AS timestamptz)
                                      THEN to_json(created.due_date) #>> '{}'
                                    ELSE to_char(created.due_date, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS due_date,
                                  created.tags AS tags,
                                  created.created_at AS created_at,
                                  created.updated_at AS updated_at) AS sent ON TRUE
       INNER JOIN LATERAL (SELECT created.id AS id,
                                  created.user_id AS user_id,
                                  created.title AS title,
                                  created.description AS description,
                                  created.completed AS completed,
                                  created.priority AS priority,
                                  CASE
                                    WHEN created.due_date < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR created.due_date = CAST('infinity' AS timestamptz)
                                      THEN to_json(created.due_date) #>> '{}'
                                    ELSE to_char(created.due_date, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS due_date,
                                  created.tags AS tags,
                                  CASE
                                    WHEN created.created_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR created.created_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(created.created_at) #>> '{}'
                                    ELSE to_char(created.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS created_at,
                                  CASE
                                    WHEN created.updated_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR created.updated_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(created.updated_at) #>> '{}'
                                    ELSE to_char(created.updated_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS updated_at) AS padded ON TRUE
