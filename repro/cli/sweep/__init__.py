"""`biasrepro sweep`: the command, its options for clusters, its dry run and its progress display."""
