"""What runs cost: time, memory and disk, estimated or measured, and how many share a GPU."""
