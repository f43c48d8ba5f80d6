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
     deleted AS (
         DELETE FROM tasks
         USING locked
         WHERE tasks.user_id = locked.user_id
           AND tasks.id = locked.id
           AND tasks.ctid = ANY(array_cat(ARRAY(SELECT locked.ctid
                                                FROM locked
                                                WHERE TRUE),
                                          ARRAY(SELECT locked.place
                                                FROM locked
                                                WHERE TRUE)))
         RETURNING tasks.user_id, tasks.id
       )
  SELECT json_send(row_to_json(deleted)) AS json_send_1, deleted.user_id, deleted.id
  FROM deleted
