-- How many mails are not sent yet, for metrics and for whatever scales the senders: a user who may read only this view
-- sees no mail. Each count reads a partial index.
create view email.mails_waiting as select
    (select count(*) from email.mails where state in ('pending', 'retry') and next_attempt_at <= now()) as due,
    (select count(*) from email.mails where state in ('pending', 'retry') and next_attempt_at > now()) as later,
    (select count(*) from email.mails where state in ('claimed', 'data')) as claimed;
