"""The stores of buckets, behind `quota.contract.Store`."""
