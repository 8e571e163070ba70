"""What tasks that classify share: sets and where batches come from, networks, recipes, workloads.  No task: there is no task.py."""
