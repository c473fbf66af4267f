-- Every list reads one stretch of an index for each status and payment status, however many orders there are. A list
-- that names only one of the two, or none, is merged from a few such stretches (roles/orders/store_lists.py). All columns
-- ascend, as comparisons of rows need.
create index orders_by_statuses_and_id on orders.orders (status, payment_status, id);
create index orders_by_statuses_and_total on orders.orders (status, payment_status, total, id);
create index orders_of_user_by_statuses_and_id on orders.orders (user_id, status, payment_status, id);
create index orders_of_user_by_statuses_and_total on orders.orders (user_id, status, payment_status, total, id);
drop index orders.orders_by_status;
drop index orders.orders_by_payment;
drop index orders.orders_by_both_statuses;
