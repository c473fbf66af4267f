-- The signature of an event about a person; empty for others.
alter table events.deliveries add column signature text not null default '';
