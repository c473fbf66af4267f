-- Events that the outlet (KAFKA_OUTLET) has still to publish, in the order in which they were emitted. The trigger is
-- disabled, and the table empty, until a process with an outlet enables it.
create table auth.outlet (
    position bigint generated always as identity primary key,
    event_id uuid not null unique,
    held boolean not null
);

create function auth.add_to_outlet() returns trigger language plpgsql as $$
begin
    insert into auth.outlet (event_id, held) select id, next_attempt_at > now() from emitted order by sequence, id;
    return null;
end
$$;

create trigger outlet after insert on auth.outbox referencing new table as emitted
    for each statement execute function auth.add_to_outlet();
alter table auth.outbox disable trigger outlet;
