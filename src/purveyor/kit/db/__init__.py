"""PostgreSQL: connections, migrations, and which server each schema lives in."""
