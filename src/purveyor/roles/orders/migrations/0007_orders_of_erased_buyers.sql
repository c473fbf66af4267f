-- Open orders of people who deleted their account keep what their delivery needs.
alter table orders.orders add column buyer_left_at timestamptz;
create index orders_of_left_buyers on orders.orders (id) where buyer_left_at is not null and erased_at is null;

-- How many orders still keep personal data, as role auth was last told.
alter table orders.erased_users add column retained int not null default 0;
