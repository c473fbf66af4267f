-- Finds the orders of a whole email address. The trigrams of an address are those of most others too, so reading them
-- takes the longer the more orders there are. The expression must be that of roles/orders/search.py.
create index search_texts_by_address on orders.search_texts (substring(text from '[^ ]+@[^ ]+'), order_id);
