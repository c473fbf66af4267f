-- Tickets that open a live timeline once, for clients that cannot send headers. They live for a minute, so a crash
-- may lose them. The token of their owner is stored under a key that only the ticket gives.
create unlogged table orders.live_tickets (
    digest bytea primary key,
    order_id uuid not null,
    user_id text not null,
    token bytea not null,
    expires_at timestamptz not null
);

create index live_tickets_by_user on orders.live_tickets (user_id, expires_at);
