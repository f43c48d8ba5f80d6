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
       )
  SELECT json_send(row_to_json(updated)) AS json_send_1, updated.user_id, updated.id
  FROM updated
