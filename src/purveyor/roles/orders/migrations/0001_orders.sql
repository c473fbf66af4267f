-- Orders, their lines, the idempotency keys and the outbox. Amounts are integers of minor units.
create sequence orders.order_number start 10001;

create table orders.orders (
    id uuid primary key,
    number bigint not null unique,
    user_id text not null,
    user_email text not null,
    user_name text not null,
    status text not null,
    payment_status text not null,
    payment_method text not null,
    currency text not null,
    total bigint not null,
    shipping_address bytea,
    note text not null,
    version int not null,
    request_id text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

-- Ids are UUIDv7: in their order, orders are in the order of their creation.
create index orders_by_user on orders.orders (user_id, id desc);
create index orders_by_status on orders.orders (status, id desc);

create table orders.order_items (
    order_id uuid not null references orders.orders,
    line smallint not null,
    product_id bigint not null,
    title text not null,
    quantity int not null,
    price bigint not null,
    primary key (order_id, line)
);

create table orders.idempotency_keys (
    user_id text not null,
    key text not null,
    fingerprint bytea not null,
    order_id uuid not null,
    answer bytea not null,
    expires_at timestamptz not null,
    primary key (user_id, key)
);

create index idempotency_keys_by_expiry on orders.idempotency_keys (expires_at);

create table orders.outbox (
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
    last_error text,
    unique (subject, type, sequence)
);

create index outbox_unpublished on orders.outbox (id) where published_at is null;
