"""Which target next: strategies, health, retries. Pure."""
