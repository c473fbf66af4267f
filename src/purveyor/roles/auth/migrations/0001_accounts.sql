-- Accounts, their addresses, and the sessions that refresh tokens belong to.
create table auth.users (
    id uuid primary key,
    email text not null unique,
    name text not null,
    phone text not null,
    language text not null,
    access text not null default 'customer' check (access in ('customer', 'staff', 'admin')),
    password_hash text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table auth.addresses (
    id uuid primary key,
    user_id uuid not null references auth.users on delete cascade,
    recipient text not null,
    line1 text not null,
    line2 text not null,
    city text not null,
    region text not null,
    postal_code text not null,
    country text not null,
    phone text not null,
    is_default boolean not null,
    created_at timestamptz not null
);

create index addresses_by_user on auth.addresses (user_id, id);
create unique index addresses_one_default on auth.addresses (user_id) where is_default;

-- One row per login: the family of refresh tokens that came from it. Only the newest token's hash is kept.
create table auth.sessions (
    id uuid primary key,
    user_id uuid not null references auth.users on delete cascade,
    refresh_hash bytea not null unique,
    created_at timestamptz not null,
    expires_at timestamptz not null
);

create index sessions_by_user on auth.sessions (user_id);
create index sessions_by_expiry on auth.sessions (expires_at);
