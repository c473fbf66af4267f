-- The place of a mail among those about its order, and the account that it belongs to. The account is null for mails
-- that a version without this column has recorded, and empty for mails of a foreign publisher.
alter table email.mails
    add column sequence int not null default 0,
    add column user_id text,
    add column mailbox text not null default '';
update email.mails set sequence = 1
    where kind = 'order.created' and order_id <> '' and state in ('pending', 'claimed', 'data', 'retry');

create index mails_of_order on email.mails (order_id, sequence) where order_id <> '';
create index mails_of_user on email.mails (user_id, created_at, event_id, kind) where user_id <> '';
drop index email.mails_of_recipient;
create index mails_of_recipient on email.mails (recipient) where user_id is null;

-- When the last mails were sent to an unconfirmed address. The mailbox is a hash, and outlives the erasure of an account.
create table email.quotas (
    mailbox text primary key,
    taken timestamptz[] not null
) with (fillfactor = 80);
