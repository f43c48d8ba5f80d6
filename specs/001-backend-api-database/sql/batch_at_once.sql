WITH operation AS (
         SELECT operations.n AS n,
                operations.op AS op,
                operations.id AS id,
                operations.etags AS etags,
                operations.fields AS fields
         FROM json_to_recordset(CAST($1 AS pg_catalog.json)) AS operations(n integer,
                                                                           op text,
                                                                           id uuid,
                                                                           etags text[],
                                                                           fields pg_catalog.json)
       ),
     current AS (
         SELECT tasks.id AS id, tasks AS before
         FROM tasks
         WHERE tasks.user_id = CAST($2 AS varchar)
           AND tasks.id = ANY(ARRAY(SELECT operation.id
                                    FROM operation
                                    WHERE operation.op <> 'create'))
         ORDER BY tasks.id
         FOR UPDATE
       ),
     verdict AS (
         SELECT operation.n AS n,
                operation.op AS op,
                operation.id AS id,
                operation.etags AS etags,
                operation.fields AS fields,
                current.before AS before,
                CASE
                  WHEN operation.op <> 'create' AND current.id IS NULL
                    THEN 404
                  WHEN operation.etags IS NOT NULL
                   AND "left"(encode(sha256(convert_to(CAST(CASE
                                                              WHEN jsonb_typeof(row.further) = 'object'
                                                                THEN CAST(concat_ws(',',
                                                                                    "left"(CAST(row_to_json(own) AS text),
                                                                                           -1),
                                                                                    NULLIF("left"(substr(CAST(row.further - CAST('{id,user_id,title,description,completed,priority,tags,all_day,completed_at,due_date,created_at,updated_at}' AS text[]) AS text),
                                                                                                         2),
                                                                                                  -1),
                                                                                           '')) || '}' AS pg_catalog.json)
                                                              ELSE row_to_json(own)
                                                            END AS text),
                                                       'UTF8')),
                                     'hex'),
                              32) <> ALL(operation.etags)
                    THEN 412
                END AS failure
         FROM operation
              LEFT JOIN current ON current.id = operation.id
              LEFT JOIN (LATERAL (SELECT ((current.before)).id AS id,
                                         ((current.before)).user_id AS user_id,
                                         ((current.before)).title AS title,
                                         ((current.before)).description AS description,
                                         ((current.before)).completed AS completed,
                                         ((current.before)).priority AS priority,
                                         ((current.before)).tags AS tags,
                                         ((current.before)).further AS further,
                                         ((current.before)).all_day AS all_day,
                                         ((current.before)).completed_at AS completed_at,
                                         ((current.before)).due_date AS due_date,
                                         ((current.before)).created_at AS created_at,
                                         ((current.before)).updated_at AS updated_at) AS row
                         INNER JOIN LATERAL (SELECT row.id AS id,
                                                    row.user_id AS user_id,
                                                    row.title AS title,
                                                    row.description AS description,
                                                    row.completed AS completed,
                                                    row.priority AS priority,
                                                    row.tags AS tags,
                                                    row.all_day AS all_day,
                                                    row.completed_at AS completed_at,
                                                    row.due_date AS due_date,
                                                    row.created_at AS created_at,
                                                    row.updated_at AS updated_at) AS own ON TRUE)
                 ON TRUE
       ),
     state AS (
         SELECT new.id AS id,
                new.user_id AS user_id,
                new.title AS title,
                new.description AS description,
                new.completed AS completed,
                new.priority AS priority,
                new.tags AS tags,
                CASE
                  WHEN verdict.fields ->> 'further' IS NULL THEN ((verdict.before)).further
                  ELSE change_members(((verdict.before)).further,
                                      CAST(verdict.fields ->> 'further' AS jsonb),
                                      verdict.op = 'update',
                                      verdict.n)
                END AS further,
                COALESCE(new.all_day,
                         ((verdict.before)).all_day AND ((verdict.before)).due_date = new.due_date,
                         FALSE) AS all_day,
                CASE
                  WHEN verdict.op = 'create'
                    THEN CASE
                           WHEN new.completed THEN LEAST(new.completed_at, new.updated_at)
                         END
                  ELSE CASE
                         WHEN NOT new.completed
                           THEN NULL
                         WHEN ((verdict.before)).completed
                           THEN ((verdict.before)).completed_at
                         ELSE CASE
                                WHEN verdict.op = 'update' THEN GREATEST(new.updated_at, now())
                                ELSE new.updated_at
                              END
                       END
                END AS completed_at,
                new.due_date AS due_date,
                CASE
                  WHEN verdict.op = 'create' THEN LEAST(new.created_at, new.updated_at)
                  ELSE new.created_at
                END AS created_at,
                CASE
                  WHEN verdict.op = 'update' THEN GREATEST(new.updated_at, now())
                  ELSE new.updated_at
                END AS updated_at
         FROM verdict
              INNER JOIN LATERAL json_populate_record(verdict.before, verdict.fields) AS new ON TRUE
         WHERE verdict.op <> 'delete'
       ),
     all_can AS (
         SELECT bool_and(verdict.failure IS NULL) AS yes
         FROM verdict
         HAVING bool_and(verdict.failure IS NULL)
       ),
     created AS (
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
         SELECT state.id AS id,
                state.user_id AS user_id,
                state.title AS title,
                state.description AS description,
                state.completed AS completed,
                state.priority AS priority,
                state.tags AS tags,
                state.further AS further,
                state.all_day AS all_day,
                state.completed_at AS completed_at,
                state.due_date AS due_date,
                state.created_at AS created_at,
                state.updated_at AS updated_at
         FROM state INNER JOIN verdict ON verdict.id = state.id
         WHERE verdict.op = 'create' AND EXISTS (SELECT all_can.yes FROM all_can)
         RETURNING tasks.id
       ),
     updated AS (
         UPDATE tasks
         SET title = state.title,
             description = state.description,
             completed = state.completed,
             priority = state.priority,
             tags = state.tags,
             further = state.further,
             all_day = state.all_day,
             completed_at = state.completed_at,
             due_date = state.due_date,
             created_at = state.created_at,
             updated_at = state.updated_at
         FROM state
         WHERE tasks.user_id = CAST($2 AS varchar)
           AND tasks.id = ANY(ARRAY(SELECT verdict.id
                                    FROM verdict
                                    WHERE verdict.op = 'update'))
           AND tasks.id = state.id
           AND EXISTS (SELECT all_can.yes
                       FROM all_can)
         RETURNING tasks.id
       ),
     deleted AS (
         DELETE FROM tasks
         WHERE tasks.user_id = CAST($2 AS varchar)
           AND tasks.id = ANY(ARRAY(SELECT verdict.id
                                    FROM verdict
                                    WHERE verdict.op = 'delete'))
           AND EXISTS (SELECT all_can.yes
                       FROM all_can)
         RETURNING tasks.id
       )
  SELECT CASE
           WHEN verdict.failure IS NOT NULL
             THEN to_json(verdict.failure)
           WHEN state.id IS NOT NULL
             THEN CASE
                    WHEN jsonb_typeof(state.further) = 'object'
                      THEN CAST(concat_ws(',',
                                          "left"(CAST(row_to_json(own) AS text), -1),
                                          NULLIF("left"(substr(CAST(state.further - CAST('{id,user_id,title,description,completed,priority,tags,all_day,completed_at,due_date,created_at,updated_at}' AS text[]) AS text),
                                                               2),
                                                        -1),
                                                 '')) || '}' AS pg_catalog.json)
                    ELSE row_to_json(own)
                  END
         END AS anon_1
  FROM verdict
       LEFT JOIN (state
                  INNER JOIN LATERAL (SELECT state.id AS id,
                                             state.user_id AS user_id,
                                             state.title AS title,
                                             state.description AS description,
                                             state.completed AS completed,
                                             state.priority AS priority,
                                             state.tags AS tags,
                                             state.all_day AS all_day,
                                             state.completed_at AS completed_at,
                                             state.due_date AS due_date,
                                             state.created_at AS created_at,
                                             state.updated_at AS updated_at) AS own ON TRUE)
          ON state.id = verdict.id
  ORDER BY verdict.n
