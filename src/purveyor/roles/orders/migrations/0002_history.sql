-- What happened to each order, whom its later events go to, and who has been erased.
-- entries: how many entries the history has. The first, "placed", is the order's own row. Whoever adds one
-- counts up here first, so the row's lock gives ids in the order of the commits.
alter table orders.orders
    add column language text not null default '',
    add column entries int not null default 1,
    add column erased_at timestamptz;

create index orders_by_payment on orders.orders (payment_status, id desc);

create table orders.history (
    order_id uuid not null references orders.orders,
    id int not null,
    at timestamptz not null,
    what text not null,
    actor text not null,
    actor_id text not null default '',
    actor_name text not null default '',
    reason text not null default '',
    request_id text not null default '',
    mail_event_id text,
    mail_kind text,
    mail_state text,
    mail_attempts int,
    mail_resends int,
    smtp_reply text,
    mail_error text,
    primary key (order_id, id)
);

-- A mail comes to a state once for each time it is handed over.
create unique index history_mails on orders.history (order_id, mail_event_id, mail_state, mail_resends)
    where mail_event_id is not null;
create index history_by_actor on orders.history (actor_id) where actor_name <> '';

-- An access token outlives its account for a while: orders placed with it are refused, or erased afterwards.
create table orders.erased_users (
    user_id text primary key,
    erased_at timestamptz not null
);

-- Each request for one's data is answered once.
create table orders.exports (
    export_id text primary key,
    user_id text not null,
    made_at timestamptz not null
);
create index exports_by_user on orders.exports (user_id);
