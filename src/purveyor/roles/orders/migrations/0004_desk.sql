-- What the order desk needs: search, undo, jobs over many orders, notes, and orders with mail trouble.

-- The folded words by which an order is found (roles/orders/search.py). They have a table of their own, because
-- each change of an order would otherwise write all their index entries again.
create table orders.search_texts (
    order_id uuid primary key,
    text text not null
);

-- pg_trgm finds a part of a word. Where it cannot be created, the index of words finds their beginnings.
do $$
declare
    home text;
begin
    begin
        create extension if not exists pg_trgm schema orders;
        select n.nspname into strict home
        from pg_opclass c join pg_namespace n on n.oid = c.opcnamespace
        where c.opcname = 'gin_trgm_ops';
        execute format(
            'create index search_texts_trigrams on orders.search_texts using gin (text %I.gin_trgm_ops)', home
        );
    exception when others then
        raise notice 'pg_trgm is not available, orders are searched by the beginnings of words: %', sqlerrm;
        create index search_texts_words on orders.search_texts
            using gin (array_to_tsvector(string_to_array(btrim(text), ' ')));
    end;
end
$$;

-- Orders with smaller ids may lack a search text. The row is deleted once all of them have one.
create table orders.search_backlog (before uuid not null);
insert into orders.search_backlog values ('ffffffff-ffff-ffff-ffff-ffffffffffff');

create index orders_by_total on orders.orders (total, id);
create index orders_by_both_statuses on orders.orders (status, payment_status, id desc);

-- The state that the last change of an order can be undone to while its events are held back.
create table orders.undoable (
    order_id uuid primary key references orders.orders,
    version int not null,
    status text not null,
    payment_status text not null,
    until timestamptz not null
);
create index undoable_by_end on orders.undoable (until);

create table orders.bulk_jobs (
    id uuid primary key,
    action text not null,
    hold_mail_s int not null,
    actor_id text not null,
    actor_name text not null,
    request_id text not null,
    created_at timestamptz not null
);
create index bulk_jobs_by_time on orders.bulk_jobs (created_at);
create index bulk_jobs_by_actor on orders.bulk_jobs (actor_id) where actor_name <> '';

create table orders.bulk_items (
    job_id uuid not null references orders.bulk_jobs on delete cascade,
    place int not null,
    order_id uuid not null,
    state text not null default 'waiting',
    detail text not null default '',
    primary key (job_id, place)
);
create index bulk_items_waiting on orders.bulk_items (job_id, place) where state = 'waiting';

create table orders.notes (
    id uuid primary key,
    order_id uuid not null references orders.orders,
    at timestamptz not null,
    actor_id text not null,
    actor_name text not null,
    text text not null
);
create index notes_by_order on orders.notes (order_id, id);
create index notes_by_actor on orders.notes (actor_id) where actor_name <> '';

-- Mails that failed or may not have arrived, until they are sent.
create table orders.mail_troubles (
    order_id uuid not null references orders.orders,
    event_id text not null,
    primary key (order_id, event_id)
);
insert into orders.mail_troubles (order_id, event_id)
select distinct t.order_id, t.mail_event_id from orders.history t
where t.mail_state in ('failed', 'unknown') and not exists (
    select from orders.history s
    where s.order_id = t.order_id and s.mail_event_id = t.mail_event_id and s.mail_state = 'sent' and s.id > t.id
);
