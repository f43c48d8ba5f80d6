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
         FROM (SELECT asked.op AS op,
                      asked.sets AS sets,
                      asked.toggles AS toggles,
                      asked.id AS id,
                      asked.user_id AS user_id,
                      asked.title AS title,
                      asked.description AS description,
                      asked.completed AS completed,
                      asked.priority AS priority,
                      asked.due_date AS due_date,
                      asked.tags AS tags,
                      asked.created_at AS created_at,
                      asked.updated_at AS updated_at
               FROM json_to_recordset(CAST($1 AS pg_catalog.json)) AS asked(op text,
                                                                            sets integer,
                                                                            toggles integer,
                                                                            id uuid,
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
         WHERE asked.op = 'create'
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
       ),
     locked AS (
         SELECT asked.op AS op,
                asked.sets AS sets,
                asked.toggles AS toggles,
                asked.id AS id,
                asked.user_id AS user_id,
                asked.title AS title,
                asked.description AS description,
                asked.completed AS completed,
                asked.priority AS priority,
                asked.due_date AS due_date,
                asked.tags AS tags,
                asked.created_at AS created_at,
                asked.updated_at AS updated_at,
                found.ctid AS ctid,
                seen.ctid AS place
         FROM (SELECT asked.op AS op,
                      asked.sets AS sets,
                      asked.toggles AS toggles,
                      asked.id AS id,
                      asked.user_id AS user_id,
                      asked.title AS title,
                      asked.description AS description,
                      asked.completed AS completed,
                      asked.priority AS priority,
                      asked.due_date AS due_date,
                      asked.tags AS tags,
                      asked.created_at AS created_at,
                      asked.updated_at AS updated_at
               FROM json_to_recordset(CAST($1 AS pg_catalog.json)) AS asked(op text,
                                                                            sets integer,
                                                                            toggles integer,
                                                                            id uuid,
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
              INNER JOIN LATERAL (SELECT ctid
                                  FROM tasks
                                  WHERE tasks.user_id = asked.user_id AND tasks.id = asked.id
                                  FOR UPDATE) AS found ON TRUE
              INNER JOIN LATERAL (SELECT ctid
                                  FROM tasks
                                  WHERE tasks.user_id = asked.user_id AND tasks.id = asked.id
                                  LIMIT 1) AS seen ON TRUE
         WHERE asked.op <> 'create'
       ),
     updated AS (
         UPDATE tasks
         SET title = CASE
                       WHEN locked.sets & 4 <> 0 THEN locked.title
                       ELSE tasks.title
                     END,
             description = CASE
                             WHEN locked.sets & 8 <> 0 THEN locked.description
                             ELSE tasks.description
                           END,
             completed = CASE
                           WHEN locked.sets & 16 <> 0
                             THEN locked.completed
                           WHEN locked.toggles & 16 <> 0
                             THEN NOT tasks.completed
                           ELSE tasks.completed
                         END,
             priority = CASE
                          WHEN locked.sets & 32 <> 0 THEN CAST(locked.priority AS task_priority)
                          ELSE tasks.priority
                        END,
             due_date = CASE
                          WHEN locked.sets & 64 <> 0 THEN locked.due_date
                          ELSE tasks.due_date
                        END,
             tags = CASE
                      WHEN locked.sets & 128 <> 0 THEN locked.tags
                      ELSE tasks.tags
                    END,
             updated_at = GREATEST(tasks.updated_at, now())
         FROM locked
         WHERE tasks.user_id = locked.user_id
           AND tasks.id = locked.id
           AND tasks.ctid = ANY(array_cat(ARRAY(SELECT locked.ctid
                                                FROM locked
                                                WHERE locked.op = 'update'),
                                          ARRAY(SELECT locked.place
                                                FROM locked
                                                WHERE locked.op = 'update')))
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
       ),
     deleted AS (
         DELETE FROM tasks
         USING locked
         WHERE tasks.user_id = locked.user_id
           AND tasks.id = locked.id
           AND tasks.ctid = ANY(array_cat(ARRAY(SELECT locked.ctid
                                                FROM locked
                                                WHERE locked.op = 'delete'),
                                          ARRAY(SELECT locked.place
                                                FROM locked
                                                WHERE locked.op = 'delete')))
         RETURNING tasks.user_id, tasks.id
       )
  (SELECT created.user_id,
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

   UNION ALL

   SELECT updated.user_id,
          updated.id,
          CASE
            WHEN updated.created_at = CAST(updated.created_at AS timestamp(5) with time zone)
              OR updated.updated_at = CAST(updated.updated_at AS timestamp(5) with time zone)
              THEN row_to_json(padded)
            ELSE row_to_json(sent)
          END AS anon_2
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
                                   END AS updated_at) AS padded ON TRUE)

  UNION ALL

  SELECT deleted.user_id, deleted.id, row_to_json(deleted) AS row_to_json_1
  FROM deleted
