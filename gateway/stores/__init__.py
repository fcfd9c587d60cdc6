"""The stores of buckets: SQLite on one host, Redis for many. Both keep `quota.contract.Store`."""
