"""How asks and events travel; one file each, none knows a role."""
