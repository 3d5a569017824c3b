"""From records to answers: which runs count, what they say of each cell, and of the claims."""
