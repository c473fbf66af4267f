-- Compressing a new message by pglz takes longer than all else that storing it does. LZ4 takes a tenth of that. Servers
-- built without LZ4 store messages as they are, until they are emptied (MAIL_KEEP_DAYS).
do $$
begin
    alter table email.mails alter column message set compression lz4;
exception when feature_not_supported then
    alter table email.mails alter column message set storage external;
end
$$;
