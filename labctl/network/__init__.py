"""What is installed on a cluster: one module per addon, one table of them, one procedure for all."""
