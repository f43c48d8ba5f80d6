-- What the database is, what is there under the names that are ours, and what our role may do.
--
-- Tables are made in the first schema of the search_path. Where the version table is in a later one,
-- beside a table of tasks, that one is their schema.
WITH home AS (
    SELECT oid, nspname AS name FROM pg_catalog.pg_namespace WHERE oid = coalesce((
        SELECT version.relnamespace
        FROM pg_catalog.pg_class AS version JOIN pg_catalog.pg_class AS other USING (relnamespace)
        WHERE version.oid = to_regclass('task_api_version') AND other.relname = 'tasks'
    ), to_regnamespace(quote_ident(current_schema())))
), relation AS (
    SELECT relation.* FROM pg_catalog.pg_class AS relation JOIN home ON relnamespace = home.oid
    WHERE relname IN ('tasks', 'idempotency_keys', 'task_priority', 'feeds', 'changes', 'personal_tokens', 'task_api_version')
), described AS (
    SELECT relname AS name, json_build_object(
        'kind', relkind,
        'owner', pg_get_userbyid(relowner),
        'is_ours', pg_has_role(relowner, 'USAGE'),
        'is_found', pg_table_is_visible(oid),
        'rights', ARRAY(
            SELECT name FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS name
            WHERE has_table_privilege(oid, name)
        ),
        'hidden', ARRAY(
            SELECT name FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS name
            WHERE row_security_active(oid) AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_policy, unnest(polroles) AS role
                WHERE polrelid = relation.oid AND polpermissive
                AND polcmd IN ('*', CASE name WHEN 'SELECT' THEN 'r' WHEN 'INSERT' THEN 'a'
                    WHEN 'UPDATE' THEN 'w' ELSE 'd' END)
                AND CASE WHEN role = 0 THEN true ELSE pg_has_role(role, 'USAGE') END
            )
        ),
        'open_to', ARRAY(
            SELECT role FROM unnest('{public,anon,anonymous,authenticated}'::text[]) AS role
            WHERE CASE WHEN role = 'public' OR to_regrole(role) IS NOT NULL THEN
                has_schema_privilege(role, relnamespace, 'USAGE')
                AND has_any_column_privilege(role, oid, 'SELECT')
            END
        ),
        'columns', (
            SELECT coalesce(json_object_agg(attname, json_build_object(
                'type', replace(format_type(atttypid, atttypmod), '"', ''),
                'is_required', attnotnull,
                'has_default', atthasdef OR attidentity <> '' OR attgenerated <> '',
                'has_collation', attcollation <> typcollation
            ) ORDER BY attnum), '{}')
            FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_type ON pg_type.oid = atttypid
            WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
        ),
        'key', (
            SELECT replace(pg_get_constraintdef(oid), '"', '') FROM pg_catalog.pg_constraint
            WHERE conrelid = relation.oid AND contype = 'p'
        ),
        'more', ARRAY(
            SELECT format('the constraint %s', conname) FROM pg_catalog.pg_constraint
            WHERE conrelid = relation.oid AND contype NOT IN ('p', 'n')
            UNION ALL
            SELECT format('the constraint %s, which refers to it', conname)
            FROM pg_catalog.pg_constraint WHERE confrelid = relation.oid
            UNION ALL
            SELECT format('the trigger %s', tgname) FROM pg_catalog.pg_trigger
            WHERE tgrelid = relation.oid AND NOT tgisinternal
            UNION ALL
            SELECT format('the rule %s', rulename) FROM pg_catalog.pg_rewrite
            WHERE ev_class = relation.oid
            UNION ALL
            SELECT format('the policy %s', polname) FROM pg_catalog.pg_policy
            WHERE polrelid = relation.oid
            UNION ALL
            SELECT format('the index %s', indexrelid::regclass) FROM pg_catalog.pg_index
            WHERE indrelid = relation.oid AND NOT indisprimary AND (
                indisunique AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_constraint WHERE conindid = indexrelid
                ) OR indexrelid IN (
                    SELECT oid FROM pg_catalog.pg_class WHERE relname = 'ix_tasks_user_id'
                ) AND replace(pg_get_indexdef(indexrelid), '"', '') NOT LIKE '%USING btree (user_id)'
            )
            UNION ALL
            SELECT format('the table %s, which it inherits from', inhparent::regclass)
            FROM pg_catalog.pg_inherits WHERE inhrelid = relation.oid
            UNION ALL
            SELECT format('the table %s, which inherits from it', inhrelid::regclass)
            FROM pg_catalog.pg_inherits WHERE inhparent = relation.oid
            UNION ALL SELECT format('the type %s', reloftype::regtype) WHERE reloftype <> 0
            UNION ALL SELECT 'row security' WHERE relrowsecurity
            UNION ALL SELECT 'rows that a crash deletes (it is UNLOGGED)'
            WHERE relpersistence <> 'p'
        )
    ) AS facts FROM relation
    UNION ALL
    SELECT typname, json_build_object('kind', 'type', 'is_found', pg_type_is_visible(pg_type.oid))
    FROM pg_catalog.pg_type JOIN home ON typnamespace = home.oid
    WHERE typname IN ('tasks', 'idempotency_keys', 'task_priority', 'feeds', 'changes', 'personal_tokens', 'task_api_version') AND typname NOT IN (SELECT relname FROM relation)
)
SELECT json_build_object(
    'encoding', current_setting('server_encoding'),
    'database', current_database(),
    'role', current_user,
    'search_path', current_setting('search_path'),
    'schema', (SELECT name FROM home),
    'may_create', (SELECT has_schema_privilege(oid, 'CREATE') FROM home),
    'may_call', (
        SELECT json_object_agg(
            function,
            has_function_privilege(to_regprocedure(format('%I.%s', name, function)), 'EXECUTE')
        )
        FROM home, unnest(ARRAY[
            'feed_epoch()',
            'change_members(jsonb,jsonb,boolean,integer)',
            'members_fit(jsonb,jsonb,boolean)',
            'merge_members(jsonb,jsonb,boolean)'
        ]) AS function
    ),
    'moved', (
        SELECT json_agg(proname || '()' ORDER BY proname)
        FROM pg_catalog.pg_proc JOIN home ON pronamespace = home.oid
        WHERE proname IN ('log_changes', 'log_leaving', 'keep_counting')
        AND position(quote_ident(name) || '.feeds' IN prosrc) = 0
    ),
    'relations', coalesce((SELECT json_object_agg(name, facts) FROM described), '{}')
)
