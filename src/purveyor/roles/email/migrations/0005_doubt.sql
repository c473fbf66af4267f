-- Whether the mail was in doubt already, since it was written or an operator last had it sent: it is re-sent once.
alter table email.mails add column doubted boolean not null default false;
