-- Lets a search look at one span of time after the other, so that a word that is in many orders does not cost the
-- reading of them all. The spans of an order are 2^18 ms (4 min), 2^21, 2^24 (5 h), 2^27, 2^30 (12 d), 2^33 and 2^36 ms
-- (2 years) long, with the level in the upper byte (roles/orders/store_search.py). New words wait in a list of 512 kB
-- instead of 4 MB, because each search reads it all, and the order that fills it waits until it is sorted in.
create function orders.spans_at(ms bigint) returns int[] language sql immutable strict parallel safe as $$
    select array[
        ms >> 18, (1 << 24) + (ms >> 21), (2 << 24) + (ms >> 24), (3 << 24) + (ms >> 27), (4 << 24) + (ms >> 30),
        (5 << 24) + (ms >> 33), (6 << 24) + (ms >> 36)
    ]::int[]
$$;
create function orders.spans_of(id uuid) returns int[] language sql immutable strict parallel safe as $$
    select orders.spans_at(('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint)
$$;

do $$
declare
    home text;
begin
    if to_regclass('orders.search_texts_trigrams') is null then
        alter index orders.search_texts_words rename to search_texts_before;
        create index search_texts_words on orders.search_texts
            using gin (orders.spans_of(order_id), array_to_tsvector(string_to_array(btrim(text), ' ')))
            with (gin_pending_list_limit = 512);
    else
        select n.nspname into strict home
        from pg_opclass c join pg_namespace n on n.oid = c.opcnamespace
        where c.opcname = 'gin_trgm_ops';
        alter index orders.search_texts_trigrams rename to search_texts_before;
        execute format(
            'create index search_texts_trigrams on orders.search_texts '
            'using gin (orders.spans_of(order_id), text %I.gin_trgm_ops) with (gin_pending_list_limit = 512)', home
        );
    end if;
    drop index orders.search_texts_before;
end
$$;
analyze orders.search_texts;
