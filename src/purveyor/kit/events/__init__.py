"""Events and asks: messages, the outbox and its relay, what a transport must do."""
