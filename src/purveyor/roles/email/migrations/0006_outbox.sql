-- The trace that a mail belongs to, and the events of this role. Rows go once they are published: they name people.
-- The ids do not sort by time: an event that is emitted again for the same fact has the same id.
alter table email.mails add column traceparent text not null default '';

create table email.outbox (
    id uuid primary key,
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
    published_at timestamptz,
    last_error text
);

create index outbox_unpublished on email.outbox (occurred_at, id) where published_at is null;
