"""Role auth: accounts, sessions, access tokens, addresses, personal data."""
