-- What a ledger of a million mails needs: an index for each list that is in order of time.
drop index email.mails_by_recipient;
create index mails_of_recipient on email.mails (recipient, created_at, event_id, kind);
