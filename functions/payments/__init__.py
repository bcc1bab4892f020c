"""The domain: take a payment, settle the order, keep every fact. Shared by all functions."""
