"""HTTP: server, middleware, requests and responses, documents and pages."""
