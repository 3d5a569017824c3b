"""The statistics of differences between losses: pure functions on numbers and arrays.

Everything broadcasts, so that a whole table, or ten thousand simulated ones, is one call. SciPy is imported inside the
functions: what only prints a mean does not wait for it.

``estimates``   means of paired differences and contrasts of several, their intervals and p-values
``holm``        p-values adjusted for all cells of a family
``effect``      P(A > B) and the correlation between arms
``verdict``     from an estimate and the paper's delta to one of four words
``power``       seeds needed
``spending``    looks declared beforehand, so that stopping early stays honest
``sequential``  a family of cells followed from look to look
"""
