WITH row AS (
         SELECT tasks.id AS id,
                tasks.user_id AS user_id,
                tasks.title AS title,
                tasks.description AS description,
                tasks.completed AS completed,
                tasks.priority AS priority,
                tasks.due_date AS due_date,
                tasks.tags AS tags,
                tasks.created_at AS created_at,
                tasks.updated_at AS updated_at
         FROM tasks
         WHERE tasks.user_id = CAST($1 AS varchar)
         ORDER BY CASE
                    WHEN octet_length(tasks.title) = length(tasks.title) THEN lower(tasks.title)
                    ELSE replace(replace(replace(replace(replace(replace(replace(replace(regexp_replace(CASE
                                                                                                          WHEN lower('Я') = 'я'
                                                                                                            THEN lower(pg_catalog.normalize(tasks.title, 'NFKD'))
                                                                                                          ELSE translate(lower(pg_catalog.normalize(tasks.title, 'NFKD')),
                                                                                                                         'ẞÆŒØŁĐĦŦͰͲͶͿΆΈΉΊΌΎΏΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΪΫϏϘϚϜϞϠϢϤϦϨϪϬϮϴϷϹϺϽϾϿЀЁЂЃЄЅІЇЈЉЊЋЌЍЎЏАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ',
                                                                                                                         'ßæœøłđħŧͱͳͷϳάέήίόύώαβγδεζηθικλμνξοπρστυφχψωϊϋϗϙϛϝϟϡϣϥϧϩϫϭϯθϸϲϻͻͼͽѐёђѓєѕіїјљњћќѝўџабвгдежзийклмнопрстуфхцчшщъыьэюя')
                                                                                                        END,
                                                                                                        '[\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u3099\u309a]',
                                                                                                        '',
                                                                                                        'g'),
                                                                                         'ß',
                                                                                         'ss'),
                                                                                 'æ',
                                                                                 'ae'),
                                                                         'œ',
                                                                         'oe'),
                                                                 'ø',
                                                                 'o'),
                                                         'ł',
                                                         'l'),
                                                 'đ',
                                                 'd'),
                                         'ħ',
                                         'h'),
                                 'ŧ',
                                 't') || chr(1) || CASE
                                                     WHEN lower('Я') = 'я' THEN lower(tasks.title)
                                                     ELSE translate(lower(pg_catalog.normalize(tasks.title, 'NFKD')),
                                                                    'ẞÆŒØŁĐĦŦͰͲͶͿΆΈΉΊΌΎΏΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΪΫϏϘϚϜϞϠϢϤϦϨϪϬϮϴϷϹϺϽϾϿЀЁЂЃЄЅІЇЈЉЊЋЌЍЎЏАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ',
                                                                    'ßæœøłđħŧͱͳͷϳάέήίόύώαβγδεζηθικλμνξοπρστυφχψωϊϋϗϙϛϝϟϡϣϥϧϩϫϭϯθϸϲϻͻͼͽѐёђѓєѕіїјљњћќѝўџабвгдежзийклмнопрстуфхцчшщъыьэюя')
                                                   END
                  END COLLATE "C",
                  tasks.title COLLATE "C" DESC,
                  tasks.id
         LIMIT CAST($2 AS bigint)
       )
  SELECT CASE
           WHEN row.created_at = CAST(row.created_at AS timestamp(5) with time zone)
             OR row.updated_at = CAST(row.updated_at AS timestamp(5) with time zone)
             THEN row_to_json(padded)
           ELSE row_to_json(sent)
         END AS json
  FROM row
       INNER JOIN LATERAL (SELECT row.id AS id,
                                  row.user_id AS user_id,
                                  row.title AS title,
                                  row.description AS description,
                                  row.completed AS completed,
                                  row.priority AS priority,
                                  CASE
                                    WHEN row.due_date < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.due_date = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.due_date) #>> '{}'
                                    ELSE to_char(row.due_date, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS due_date,
                                  row.tags AS tags,
                                  row.created_at AS created_at,
                                  row.updated_at AS updated_at) AS sent ON TRUE
       INNER JOIN LATERAL (SELECT row.id AS id,
                                  row.user_id AS user_id,
                                  row.title AS title,
                                  row.description AS description,
                                  row.completed AS completed,
                                  row.priority AS priority,
                                  CASE
                                    WHEN row.due_date < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.due_date = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.due_date) #>> '{}'
                                    ELSE to_char(row.due_date, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS due_date,
                                  row.tags AS tags,
                                  CASE
                                    WHEN row.created_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.created_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.created_at) #>> '{}'
                                    ELSE to_char(row.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS created_at,
                                  CASE
                                    WHEN row.updated_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.updated_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.updated_at) #>> '{}'
                                    ELSE to_char(row.updated_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS updated_at) AS padded ON TRUE
