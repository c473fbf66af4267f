-- What a ledger of a million mails needs: an index for each list in the order of time, and for what is kept too long.
drop index email.mails_by_recipient;
create index mails_of_recipient on email.mails (recipient, created_at, event_id, kind);
create index mails_list on email.mails (created_at desc, event_id desc);
drop index email.mails_by_state;
create index mails_list_of_state on email.mails (state, created_at desc, event_id desc)
    where state in ('failed', 'unknown');
create index mails_kept on email.mails (updated_at) where state = 'sent' and octet_length(message) > 0;
