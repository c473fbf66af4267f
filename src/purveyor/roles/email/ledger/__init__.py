"""The mail ledger in PostgreSQL or MongoDB."""
