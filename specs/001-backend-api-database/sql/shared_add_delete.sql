WITH locked AS (
         SELECT asked.id AS id, asked.user_id AS user_id, found.ctid AS ctid
         FROM json_to_recordset(CAST($1 AS pg_catalog.json)) AS asked(id uuid, user_id varchar(255))
              INNER JOIN LATERAL (SELECT feeds.user_id AS user_id
                                  FROM feeds
                                  WHERE feeds.user_id = asked.user_id
                                  FOR UPDATE SKIP LOCKED) AS feed ON TRUE
              INNER JOIN LATERAL (SELECT ctid
                                  FROM tasks
                                  WHERE tasks.user_id = asked.user_id AND tasks.id = asked.id
                                  FOR UPDATE SKIP LOCKED) AS found ON TRUE
         WHERE TRUE
       ),
     deleted AS (
         DELETE FROM tasks
         USING locked
         WHERE tasks.user_id = locked.user_id
           AND tasks.id = locked.id
           AND tasks.ctid = ANY(ARRAY(SELECT locked.ctid
                                      FROM locked
                                      WHERE TRUE))
         RETURNING tasks.user_id, tasks.id
       )
  SELECT json_send(row_to_json(deleted)) AS json_send_1, deleted.user_id, deleted.id
  FROM deleted
