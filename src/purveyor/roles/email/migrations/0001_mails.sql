-- The mail ledger: inbox, claim and result in one record for each event, kind and recipient.
create sequence email.sender_number as int;

create table email.mails (
    event_id uuid not null,
    kind text not null,
    recipient text not null,
    order_number bigint,
    subject text not null,
    message_id text not null,
    message bytea not null,
    state text not null default 'pending'
        check (state in ('pending', 'claimed', 'data', 'sent', 'retry', 'failed', 'unknown')),
    attempts int not null default 0,
    resends int not null default 0,
    owner int,
    next_attempt_at timestamptz not null default now(),
    smtp_reply text not null default '',
    error text not null default '',
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (event_id, kind, recipient)
) with (fillfactor = 80);

create index mails_due on email.mails (next_attempt_at) where state in ('pending', 'retry');
create index mails_in_hand on email.mails (owner) where state in ('claimed', 'data');
create index mails_by_state on email.mails (state, event_id) where state in ('failed', 'unknown');
