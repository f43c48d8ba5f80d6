WITH row AS (
         SELECT tasks.id AS id,
                tasks.user_id AS user_id,
                tasks.title AS title,
                tasks.description AS description,
                tasks.completed AS completed,
                tasks.priority AS priority,
                tasks.tags AS tags,
                tasks.all_day AS all_day,
                tasks.completed_at AS completed_at,
                tasks.due_date AS due_date,
                tasks.created_at AS created_at,
                tasks.updated_at AS updated_at,
                CASE
                  WHEN jsonb_typeof(tasks.further) = 'object'
                    THEN tasks.further - CAST('{id,user_id,title,description,completed,priority,tags,all_day,completed_at,due_date,created_at,updated_at}' AS text[])
                END AS further
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
  SELECT json_send(row_to_json(row)) AS json_send_1
  FROM row
