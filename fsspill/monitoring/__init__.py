"""The metrics of a running cluster, as people see them: live, on a dashboard, and in alerts.

It reads what the nodes export for Prometheus, and needs neither Ray nor Prometheus.
"""
