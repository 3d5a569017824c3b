"""Many runs: what is left to do, where each is placed, and how they come to their end."""
