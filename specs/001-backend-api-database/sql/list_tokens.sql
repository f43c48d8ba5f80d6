WITH row AS (
         SELECT personal_tokens.id AS id,
                personal_tokens.user_id AS user_id,
                personal_tokens.name AS name,
                personal_tokens.scope AS scope,
                personal_tokens.created_at AS created_at,
                personal_tokens.expires_at AS expires_at,
                personal_tokens.last_used_at AS last_used_at
         FROM personal_tokens
         WHERE personal_tokens.user_id = CAST($1 AS varchar)
         ORDER BY CASE
                    WHEN octet_length(personal_tokens.name) = length(personal_tokens.name)
                      THEN lower(personal_tokens.name)
                    ELSE replace(replace(replace(replace(replace(replace(replace(replace(regexp_replace(CASE
                                                                                                          WHEN lower('Я') = 'я'
                                                                                                            THEN lower(pg_catalog.normalize(personal_tokens.name, 'NFKD'))
                                                                                                          ELSE translate(lower(pg_catalog.normalize(personal_tokens.name, 'NFKD')),
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
                                                     WHEN lower('Я') = 'я'
                                                       THEN lower(personal_tokens.name)
                                                     ELSE translate(lower(pg_catalog.normalize(personal_tokens.name, 'NFKD')),
                                                                    'ẞÆŒØŁĐĦŦͰͲͶͿΆΈΉΊΌΎΏΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΪΫϏϘϚϜϞϠϢϤϦϨϪϬϮϴϷϹϺϽϾϿЀЁЂЃЄЅІЇЈЉЊЋЌЍЎЏАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ',
                                                                    'ßæœøłđħŧͱͳͷϳάέήίόύώαβγδεζηθικλμνξοπρστυφχψωϊϋϗϙϛϝϟϡϣϥϧϩϫϭϯθϸϲϻͻͼͽѐёђѓєѕіїјљњћќѝўџабвгдежзийклмнопрстуфхцчшщъыьэюя')
                                                   END
                  END COLLATE "C",
                  personal_tokens.name COLLATE "C" DESC,
                  personal_tokens.id
         LIMIT CAST($2 AS bigint)
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
