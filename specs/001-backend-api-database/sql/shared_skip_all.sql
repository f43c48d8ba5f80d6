WITH created AS (
         INSERT INTO tasks (id,
                            user_id,
                            title,
                            description,
                            completed,
                            priority,
                            tags,
                            further,
                            all_day,
                            completed_at,
                            due_date,
                            created_at,
                            updated_at)
         SELECT asked.id AS id,
                asked.user_id AS user_id,
                asked.title AS title,
                asked.description AS description,
                asked.completed AS completed,
                CAST(asked.priority AS task_priority) AS priority,
                asked.tags AS tags,
                CAST(asked.further AS jsonb) AS further,
                asked.all_day AS all_day,
                CASE
                  WHEN asked.completed THEN LEAST(asked.completed_at, asked.updated_at)
                END AS anon_1,
                asked.due_date AS due_date,
                LEAST(asked.created_at, asked.updated_at) AS least_1,
                asked.updated_at AS updated_at
         FROM json_to_recordset(CAST($1 AS pg_catalog.json)) AS asked(op text,
                                                                      sets integer,
                                                                      toggles integer,
                                                                      replaces boolean,
                                                                      id uuid,
                                                                      user_id varchar(255),
                                                                      title varchar(500),
                                                                      description text,
                                                                      completed boolean,
                                                                      priority text,
                                                                      tags text[],
                                                                      further text,
                                                                      all_day boolean,
                                                                      completed_at timestamp with time zone,
                                                                      due_date timestamp with time zone,
                                                                      created_at timestamp with time zone,
                                                                      updated_at timestamp with time zone)
              INNER JOIN LATERAL (SELECT feeds.user_id AS user_id
                                  FROM feeds
                                  WHERE feeds.user_id = asked.user_id
                                  FOR UPDATE SKIP LOCKED) AS feed ON TRUE
         WHERE asked.op = 'create'
         RETURNING tasks.id,
                   tasks.user_id,
                   tasks.title,
                   tasks.description,
                   tasks.completed,
                   tasks.priority,
                   tasks.tags,
                   tasks.all_day,
                   tasks.completed_at,
                   tasks.due_date,
                   tasks.created_at,
                   tasks.updated_at,
                   CASE
                     WHEN jsonb_typeof(tasks.further) = 'object'
                       THEN tasks.further - CAST('{id,user_id,title,description,completed,priority,tags,all_day,completed_at,due_date,created_at,updated_at}' AS text[])
                   END AS further
       ),
     locked AS (
         SELECT asked.op AS op,
                asked.sets AS sets,
                asked.toggles AS toggles,
                asked.replaces AS replaces,
                asked.id AS id,
                asked.user_id AS user_id,
                asked.title AS title,
                asked.description AS description,
                asked.completed AS completed,
                asked.priority AS priority,
                asked.tags AS tags,
                asked.further AS further,
                asked.all_day AS all_day,
                asked.completed_at AS completed_at,
                asked.due_date AS due_date,
                asked.created_at AS created_at,
                asked.updated_at AS updated_at,
                found.ctid AS ctid
         FROM json_to_recordset(CAST($1 AS pg_catalog.json)) AS asked(op text,
                                                                      sets integer,
                                                                      toggles integer,
                                                                      replaces boolean,
                                                                      id uuid,
                                                                      user_id varchar(255),
                                                                      title varchar(500),
                                                                      description text,
                                                                      completed boolean,
                                                                      priority text,
                                                                      tags text[],
                                                                      further text,
                                                                      all_day boolean,
                                                                      completed_at timestamp with time zone,
                                                                      due_date timestamp with time zone,
                                                                      created_at timestamp with time zone,
                                                                      updated_at timestamp with time zone)
              INNER JOIN LATERAL (SELECT feeds.user_id AS user_id
                                  FROM feeds
                                  WHERE feeds.user_id = asked.user_id
                                  FOR UPDATE SKIP LOCKED) AS feed ON TRUE
              INNER JOIN LATERAL (SELECT ctid
                                  FROM tasks
                                  WHERE tasks.user_id = asked.user_id AND tasks.id = asked.id
                                  FOR UPDATE SKIP LOCKED) AS found ON TRUE
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
             tags = CASE
                      WHEN locked.sets & 64 <> 0 THEN locked.tags
                      ELSE tasks.tags
                    END,
             further = CASE
                         WHEN locked.sets & 128 <> 0
                           THEN change_members(tasks.further,
                                               CAST(locked.further AS jsonb),
                                               locked.replaces IS NOT TRUE,
                                               NULL)
                         ELSE tasks.further
                       END,
             all_day = CASE
                         WHEN locked.sets & 256 <> 0
                           THEN COALESCE(locked.all_day,
                                         tasks.all_day AND tasks.due_date = locked.due_date,
                                         FALSE)
                         WHEN locked.toggles & 256 <> 0
                           THEN NOT tasks.all_day
                         ELSE tasks.all_day
                       END,
             due_date = CASE
                          WHEN locked.sets & 1024 <> 0 THEN locked.due_date
                          ELSE tasks.due_date
                        END,
             updated_at = GREATEST(tasks.updated_at, now())
         FROM locked
         WHERE tasks.user_id = locked.user_id
           AND tasks.id = locked.id
           AND tasks.ctid = ANY(ARRAY(SELECT locked.ctid
                                      FROM locked
                                      WHERE locked.op = 'update'))
           AND (locked.sets & 128 = 0
             OR members_fit(tasks.further,
                            CAST(locked.further AS jsonb),
                            locked.replaces IS NOT TRUE))
         RETURNING tasks.id,
                   tasks.user_id,
                   tasks.title,
                   tasks.description,
                   tasks.completed,
                   tasks.priority,
                   tasks.tags,
                   tasks.all_day,
                   tasks.completed_at,
                   tasks.due_date,
                   tasks.created_at,
                   tasks.updated_at,
                   CASE
                     WHEN jsonb_typeof(tasks.further) = 'object'
                       THEN tasks.further - CAST('{id,user_id,title,description,completed,priority,tags,all_day,completed_at,due_date,created_at,updated_at}' AS text[])
                   END AS further
       ),
     deleted AS (
         DELETE FROM tasks
         USING locked
         WHERE tasks.user_id = locked.user_id
           AND tasks.id = locked.id
           AND tasks.ctid = ANY(ARRAY(SELECT locked.ctid
                                      FROM locked
                                      WHERE locked.op = 'delete'))
         RETURNING tasks.user_id, tasks.id
       )
  (SELECT json_send(row_to_json(created)) AS json_send_1, created.user_id, created.id
   FROM created

   UNION ALL

   SELECT json_send(row_to_json(updated)) AS json_send_2, updated.user_id, updated.id
   FROM updated)

  UNION ALL

  SELECT json_send(row_to_json(deleted)) AS json_send_3, deleted.user_id, deleted.id
  FROM deleted
