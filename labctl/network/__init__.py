"""One module per CNI plugin and per load balancer: what to install, what it needs, when it is ready."""
