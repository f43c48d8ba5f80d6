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
  SELECT json_send(row_to_json(row)) AS json_send_1
  FROM row
