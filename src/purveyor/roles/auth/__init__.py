"""Role auth: who somebody is, their tokens, their profile and addresses."""
