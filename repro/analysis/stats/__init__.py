"""The statistics of differences between losses: pure functions on numbers and arrays.

Everything broadcasts, so that a whole table, or ten thousand simulated ones, is one call. SciPy is imported inside the
functions: what only prints a mean does not wait for it.

``estimates``       means of paired differences and contrasts of several, their intervals and p-values
``holm``            p-values adjusted for all cells of a family
``effect``          P(A > B) and the correlation between arms
``decision_rule``   the verdict, from an estimate and the paper's delta
``power``           seeds needed
``alpha_spending``  interim analyses that control the error rate
``sequential``      a family of cells over its interim analyses
``simulation``      seeds and verdicts to expect
"""
