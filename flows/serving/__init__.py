"""`azr up`: a Prefect server, the deployments of prefect.yaml, automations, and a process that watches over them."""
