"""What this machine has, and how runs are placed on it."""
