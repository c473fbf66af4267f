-- What happens to accounts over the years: sessions rotate and end, passwords are reset, people take their data
-- with them or have it erased.

-- Access tokens carry the version; raised, it ends those that were signed before.
alter table auth.users add column token_version int not null default 1;
create index users_by_email_prefix on auth.users (email text_pattern_ops);
create index users_admins on auth.users (id) where access = 'admin';

-- How often the session's refresh token was exchanged for a new one, and when last.
alter table auth.sessions
    add column generation int not null default 0,
    add column refreshed_at timestamptz not null default now();

-- Access tokens that no longer work though their time is not over: those of a session or of an account (the id is
-- either's) below a version. Every process reads what is new about once a second.
create table auth.revocations (
    id uuid primary key,
    version int not null,
    revoked_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null
);

create index revocations_by_time on auth.revocations (revoked_at);
create index revocations_by_expiry on auth.revocations (expires_at);

-- Tokens to set a new password, as their hashes. A row without a user stands for an address without an account:
-- asking for it must take as long.
create table auth.password_resets (
    token_hash bytea primary key,
    user_id uuid references auth.users on delete cascade,
    created_at timestamptz not null default now(),
    used_at timestamptz
);

create index password_resets_by_user on auth.password_resets (user_id, created_at);
create index password_resets_by_time on auth.password_resets (created_at);

-- What a person has asked for of all that is held on them, and what the other roles have sent of it.
create table auth.exports (
    id uuid primary key,
    user_id uuid not null references auth.users on delete cascade,
    requested_at timestamptz not null default now()
);

create index exports_by_user on auth.exports (user_id, requested_at);
create index exports_by_time on auth.exports (requested_at);

create table auth.export_parts (
    export_id uuid not null references auth.exports on delete cascade,
    role text not null,
    part int not null,
    parts int not null,
    document bytea not null,
    primary key (export_id, role, part)
);

-- Accounts that were deleted: nothing of the person but the id, and who else has erased their part.
create table auth.erasures (
    user_id uuid primary key,
    requested_at timestamptz not null default now(),
    orders_erased_at timestamptz,
    mails_erased_at timestamptz
);

create index erasures_by_time on auth.erasures (requested_at);

-- Rows go once they are published: they hold personal data, and tokens.
create table auth.outbox (
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

create index outbox_unpublished on auth.outbox (id) where published_at is null;
create index outbox_by_subject on auth.outbox (subject);
