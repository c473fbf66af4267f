"""The event transport over RabbitMQ: publishing and consuming, one delivery, and what the broker must have."""
