-- Every order is updated when the outcome of its email is noted. With room on its page for the new version, none of the
-- indexes has to be written.
alter table orders.orders set (fillfactor = 85);
