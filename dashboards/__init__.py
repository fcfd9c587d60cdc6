"""Dashboards for Grafana and the reference of metrics, made from the metric table."""
