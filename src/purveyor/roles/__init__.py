"""The slices of the business, one folder each; a role imports nothing of another one but its ``contract``."""
