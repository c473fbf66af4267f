-- Events under way to the roles that hear them, one row per queue and event.
create table events.deliveries (
    queue text not null,
    id uuid not null,
    type text not null,
    body bytea not null,
    occurred_at timestamptz not null,
    subject text not null,
    sequence int not null,
    correlation_id text not null,
    currency text not null,
    language text not null,
    traceparent text not null,
    attempts int not null default 0,
    next_attempt_at timestamptz not null default now(),
    died_at timestamptz,
    reason text,
    primary key (queue, id)
);

create index deliveries_waiting on events.deliveries (queue, next_attempt_at) where died_at is null;
create index deliveries_dead on events.deliveries (died_at) where died_at is not null;
