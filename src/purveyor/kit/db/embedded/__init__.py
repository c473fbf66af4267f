"""The PostgreSQL server that needs no installation."""
