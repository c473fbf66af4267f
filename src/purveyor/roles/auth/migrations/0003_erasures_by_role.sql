-- When each role said that it has erased its part, whatever roles there are. The columns of before stay for
-- processes of the version before, which may still write them during an upgrade.
create table auth.erasure_answers (
    user_id uuid not null references auth.erasures on delete cascade,
    role text not null,
    erased_at timestamptz not null default now(),
    primary key (user_id, role)
);

create view auth.erased_by_role as
select user_id, role, min(erased_at) as erased_at
from (
    select user_id, role, erased_at from auth.erasure_answers
    union all
    select user_id, 'orders', orders_erased_at from auth.erasures where orders_erased_at is not null
    union all
    select user_id, 'email', mails_erased_at from auth.erasures where mails_erased_at is not null
) as answered
group by user_id, role;
