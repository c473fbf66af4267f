-- Events that the outlet (KAFKA_OUTLET) has still to publish, in the order in which they were emitted. The trigger is
-- disabled, and the table empty, until a process with an outlet enables it.
create table orders.outlet (
    position bigint generated always as identity primary key,
    event_id uuid not null unique,
    held boolean not null
);

create function orders.add_to_outlet() returns trigger language plpgsql as $$
begin
    insert into orders.outlet (event_id, held) select id, next_attempt_at > now() from emitted order by sequence, id;
    return null;
end
$$;

create trigger outlet after insert on orders.outbox referencing new table as emitted
    for each statement execute function orders.add_to_outlet();
alter table orders.outbox disable trigger outlet;
