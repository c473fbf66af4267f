-- Who has proved to read the mail of their address. Staff were made by the operator, who vouches for them.
alter table auth.users
    add column email_confirmed_at timestamptz,
    add column blocked_at timestamptz;
update auth.users set email_confirmed_at = now() where access <> 'customer';

-- The browser and system of a sign-in, such as "Firefox on Windows".
alter table auth.sessions add column device text not null default '';

-- The newest token that confirms an address of an account: the one it has, or the one it shall get.
create table auth.email_confirmations (
    user_id uuid primary key references auth.users on delete cascade,
    token_hash bytea not null unique,
    email text not null,
    created_at timestamptz not null default now()
);
create index email_confirmations_by_time on auth.email_confirmations (created_at);

-- When mail was last caused to a mailbox (a hash). It outlives the account, so that erasing it resets no limit.
create table auth.mailings (
    mailbox text not null,
    at timestamptz not null default now()
);
create index mailings_by_mailbox on auth.mailings (mailbox, at);
create index mailings_by_time on auth.mailings (at);

-- Addresses for which a password reset is wanted. Whether there is an account is looked up later, apart from the
-- request, so that its time tells nothing.
create table auth.reset_wishes (
    email text primary key,
    correlation_id text not null,
    traceparent text not null,
    at timestamptz not null default now()
);

-- How many open orders keep personal data until they are delivered or cancelled.
alter table auth.erasure_answers add column retained int not null default 0;
create or replace view auth.erased_by_role as
select user_id, role, min(erased_at) as erased_at, max(retained) as retained
from (
    select user_id, role, erased_at, retained from auth.erasure_answers
    union all
    select user_id, 'orders', orders_erased_at, 0 from auth.erasures where orders_erased_at is not null
    union all
    select user_id, 'email', mails_erased_at, 0 from auth.erasures where mails_erased_at is not null
) as answered
group by user_id, role;
