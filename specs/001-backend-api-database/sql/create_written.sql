WITH row AS (
         SELECT CAST(CAST($1 AS uuid) AS uuid) AS id,
                CAST(CAST($2 AS varchar) AS varchar(255)) AS user_id,
                CAST(CAST($3 AS varchar) AS varchar(500)) AS title,
                CAST(CAST($4 AS varchar) AS text) AS description,
                CAST(CAST($5 AS boolean) AS boolean) AS completed,
                CAST(CAST(CAST($6 AS varchar) AS task_priority) AS task_priority) AS priority,
                CAST(CAST($7 AS text[]) AS text[]) AS tags,
                CAST(CAST($8 AS boolean) AS boolean) AS all_day,
                CASE
                  WHEN CAST(CAST($5 AS boolean) AS boolean)
                    THEN LEAST(CAST(CAST($9 AS timestamp with time zone) AS timestamp with time zone),
                               CAST(CAST($10 AS timestamp with time zone) AS timestamp with time zone))
                END AS completed_at,
                CAST(CAST($11 AS timestamp with time zone) AS timestamp with time zone) AS due_date,
                LEAST(CAST(CAST($12 AS timestamp with time zone) AS timestamp with time zone),
                      CAST(CAST($10 AS timestamp with time zone) AS timestamp with time zone)) AS created_at,
                CAST(CAST($10 AS timestamp with time zone) AS timestamp with time zone) AS updated_at,
                CASE
                  WHEN jsonb_typeof(CAST(CAST(CAST($13 AS varchar) AS jsonb) AS jsonb)) = 'object'
                    THEN CAST(CAST(CAST($13 AS varchar) AS jsonb) AS jsonb) - CAST('{id,user_id,title,description,completed,priority,tags,all_day,completed_at,due_date,created_at,updated_at}' AS text[])
                END AS further
       )
  SELECT json_send(row_to_json(row)) AS json_send_1
  FROM row
