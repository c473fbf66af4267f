create table tally.orders (
    event_id uuid primary key,
    day date not null
);

create index orders_by_day on tally.orders (day);
