WITH row AS (
         SELECT CAST(CAST($1 AS uuid) AS uuid) AS id,
                CAST(CAST($2 AS varchar) AS varchar(255)) AS user_id,
                CAST(CAST($3 AS varchar) AS varchar(100)) AS name,
                CAST(CAST($4 AS varchar) AS varchar(5)) AS scope,
                CAST(CAST($5 AS timestamp with time zone) AS timestamp with time zone) AS created_at,
                CAST(CAST($6 AS timestamp with time zone) AS timestamp with time zone) AS expires_at,
                CAST(CAST($7 AS timestamp with time zone) AS timestamp with time zone) AS last_used_at
       )
  SELECT CASE
           WHEN row.created_at = CAST(row.created_at AS timestamp(5) with time zone)
             THEN row_to_json(padded)
           ELSE row_to_json(sent)
         END AS json
  FROM row
       INNER JOIN LATERAL (SELECT row.id AS id,
                                  row.user_id AS user_id,
                                  row.name AS name,
                                  row.scope AS scope,
                                  row.created_at AS created_at,
                                  CASE
                                    WHEN row.expires_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.expires_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.expires_at) #>> '{}'
                                    ELSE to_char(row.expires_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS expires_at,
                                  CASE
                                    WHEN row.last_used_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.last_used_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.last_used_at) #>> '{}'
                                    ELSE to_char(row.last_used_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS last_used_at) AS sent ON TRUE
       INNER JOIN LATERAL (SELECT row.id AS id,
                                  row.user_id AS user_id,
                                  row.name AS name,
                                  row.scope AS scope,
                                  CASE
                                    WHEN row.created_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.created_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.created_at) #>> '{}'
                                    ELSE to_char(row.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS created_at,
                                  CASE
                                    WHEN row.expires_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.expires_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.expires_at) #>> '{}'
                                    ELSE to_char(row.expires_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS expires_at,
                                  CASE
                                    WHEN row.last_used_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.last_used_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.last_used_at) #>> '{}'
                                    ELSE to_char(row.last_used_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS last_used_at) AS padded ON TRUE
