-- The last mails to deleted accounts, which are erased once they are sent.
create index mails_farewells on email.mails (updated_at) where kind = 'user.erased' and recipient <> '';
