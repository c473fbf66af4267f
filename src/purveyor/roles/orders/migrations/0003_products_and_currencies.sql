-- A product id is a number or a text, and stays what it was: 1 and '1' are different products.
alter table orders.order_items
    alter column product_id drop not null,
    add column product_text text,
    add constraint one_product_id check (num_nonnulls(product_id, product_text) = 1) not valid;

-- Amounts were stored in hundredths for every currency. Now they are stored in the minor units of ISO 4217, which
-- are hundredths for nearly all. A fraction that a currency does not have could not be paid: it is rounded.
with currencies (code, factor) as (
    select unnest(string_to_array('BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF', ' ')), 0.01
    union all select unnest(string_to_array('BHD IQD JOD KWD LYD OMR TND', ' ')), 10
    union all select unnest(string_to_array('CLF UYW', ' ')), 100
), items as (
    update orders.order_items i set price = round(i.price * c.factor)
    from orders.orders o join currencies c on c.code = o.currency
    where i.order_id = o.id
    returning i.order_id, i.price * i.quantity as amount
)
update orders.orders o set total = items.total
from (select order_id, sum(amount) as total from items group by order_id) items
where o.id = items.order_id;
