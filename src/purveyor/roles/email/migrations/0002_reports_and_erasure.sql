-- Which order a mail is about, and which outcome its role was told last (state:resends); what is asked of an address.
alter table email.mails
    add column order_id text not null default '',
    add column request_id text not null default '',
    add column reported text not null default '';

create index mails_unreported on email.mails (updated_at)
    where order_id <> '' and state in ('sent', 'failed', 'unknown') and reported <> state || ':' || resends::text;
create index mails_by_recipient on email.mails (recipient);
