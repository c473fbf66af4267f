#!/bin/sh
# A database role for each role of Purveyor that keeps its data in PostgreSQL. It reaches only its own schema.
#
# The postgres image runs this on a new cluster. On an older one, and after a change of a password, run
#   docker compose exec postgres sh /docker-entrypoint-initdb.d/roles.sh

set -eu

add() {
    psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
        --set schema="$1" --set role="purveyor_$1" --set password="$2" <<'SQL'
select format('create role %I login', :'role') where not exists (select from pg_roles where rolname = :'role') \gexec
select format('alter role %I password %L', :'role', :'password') \gexec
select format('grant create on database %I to %I', current_database(), :'role') \gexec
select format('alter schema %I owner to %I', nspname, :'role') from pg_namespace where nspname = :'schema' \gexec
select format('alter table %I.%I owner to %I', schemaname, tablename, :'role') from pg_tables
    where schemaname = :'schema' \gexec
select format('alter sequence %I.%I owner to %I', s.schemaname, s.sequencename, :'role') from pg_sequences s
    where s.schemaname = :'schema' and not exists (
        select from pg_depend d where d.deptype in ('a', 'i')
            and d.objid = format('%I.%I', s.schemaname, s.sequencename)::regclass
    ) \gexec
SQL
}

add auth "$AUTH_POSTGRES_PASSWORD"
add orders "$ORDERS_POSTGRES_PASSWORD"
