SELECT idempotency_keys.fingerprint,
       CASE
         WHEN json_typeof(each_1.value) = 'object'
           THEN CASE
                  WHEN jsonb_typeof(state_1.further) = 'object'
                    THEN CAST(concat_ws(',',
                                        "left"(CAST(row_to_json(own) AS text), -1),
                                        NULLIF("left"(substr(CAST(state_1.further - CAST('{id,user_id,title,description,completed,priority,tags,all_day,completed_at,due_date,created_at,updated_at}' AS text[]) AS text),
                                                             2),
                                                      -1),
                                               '')) || '}' AS pg_catalog.json)
                  ELSE row_to_json(own)
                END
         ELSE each_1.value
       END AS row
FROM idempotency_keys
     LEFT JOIN LATERAL json_array_elements(idempotency_keys.answer) WITH ORDINALITY AS each_1 (value, n) ON TRUE
     LEFT JOIN (SELECT operations.n AS n,
                       operations.op AS op,
                       operations.id AS id,
                       operations.etags AS etags,
                       operations.fields AS fields
                FROM json_to_recordset(CAST($1 AS pg_catalog.json)) AS operations(n integer,
                                                                                  op text,
                                                                                  id uuid,
                                                                                  etags text[],
                                                                                  fields pg_catalog.json)) AS asked ON asked.n = each_1.n - 1
     LEFT JOIN (LATERAL jsonb_to_record(CASE
                                          WHEN json_typeof(each_1.value) = 'object'
                                            THEN CAST(asked.fields AS jsonb) || CAST(each_1.value AS jsonb)
                                          ELSE CAST('{}' AS jsonb)
                                        END) AS state_1(id uuid,
                                                        user_id varchar(255),
                                                        title varchar(500),
                                                        description text,
                                                        completed boolean,
                                                        priority task_priority,
                                                        tags text[],
                                                        further jsonb,
                                                        all_day boolean,
                                                        completed_at timestamp with time zone,
                                                        due_date timestamp with time zone,
                                                        created_at timestamp with time zone,
                                                        updated_at timestamp with time zone)
                INNER JOIN LATERAL (SELECT state_1.id AS id,
                                           state_1.user_id AS user_id,
                                           state_1.title AS title,
                                           state_1.description AS description,
                                           state_1.completed AS completed,
                                           state_1.priority AS priority,
                                           state_1.tags AS tags,
                                           state_1.all_day AS all_day,
                                           state_1.completed_at AS completed_at,
                                           state_1.due_date AS due_date,
                                           state_1.created_at AS created_at,
                                           state_1.updated_at AS updated_at) AS own ON TRUE)
        ON TRUE
WHERE idempotency_keys.user_id = CAST($2 AS varchar)
  AND idempotency_keys.key = CAST($3 AS varchar)
  AND idempotency_keys.created_at >= CAST($4 AS timestamp with time zone)
ORDER BY each_1.n
