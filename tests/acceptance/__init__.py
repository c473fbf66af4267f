"""What every shape must do, as a customer, an employee or an operator sees it."""
