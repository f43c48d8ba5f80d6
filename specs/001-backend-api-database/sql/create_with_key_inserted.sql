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
VALUES (CAST($1 AS uuid),
        CAST($2 AS varchar),
        CAST($3 AS varchar),
        CAST($4 AS varchar),
        CAST($5 AS boolean),
        CAST(CAST($6 AS varchar) AS task_priority),
        CAST($7 AS text[]),
        CAST(CAST($8 AS varchar) AS jsonb),
        CAST($9 AS boolean),
        CASE
          WHEN CAST($5 AS boolean)
            THEN LEAST(CAST($10 AS timestamp with time zone), CAST($11 AS timestamp with time zone))
        END,
        CAST($12 AS timestamp with time zone),
        LEAST(CAST($13 AS timestamp with time zone), CAST($11 AS timestamp with time zone)),
        CAST($11 AS timestamp with time zone))
ON CONFLICT DO NOTHING
