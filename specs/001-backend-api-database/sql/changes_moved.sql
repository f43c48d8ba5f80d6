WITH row AS (
         SELECT feeds.user_id AS user_id, feeds.seq AS seq
         FROM feeds, unnest(CAST($1 AS text[]), CAST($2 AS bigint[])) AS asked (user_id, seq)
         WHERE feeds.user_id = asked.user_id AND feeds.seq <> asked.seq
       )
  SELECT row_to_json(row) AS row_to_json_1
  FROM row
