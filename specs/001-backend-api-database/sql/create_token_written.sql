WITH row AS (
         SELECT CAST(CAST($1 AS uuid) AS uuid) AS id,
                CAST(CAST($2 AS varchar) AS varchar(255)) AS user_id,
                CAST(CAST($3 AS varchar) AS varchar(100)) AS name,
                CAST(CAST($4 AS varchar) AS varchar(5)) AS scope,
                CAST(CAST($5 AS timestamp with time zone) AS timestamp with time zone) AS created_at,
                CAST(CAST($6 AS timestamp with time zone) AS timestamp with time zone) AS expires_at,
                CAST(CAST($7 AS timestamp with time zone) AS timestamp with time zone) AS last_used_at
       )
  SELECT json_send(row_to_json(row)) AS json_send_1
  FROM row
