"""Role email: every order confirmed by mail, each mail in the ledger, none lost and none doubled in silence."""
