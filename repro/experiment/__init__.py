"""What an experiment is: networks, losses and data sets by name, tables as YAML, cells and runs."""
