"""The claims of the supplement's text, each with its test on our runs and the answer in words.

A claim speaks of these networks, so it is tested on the mean over them (a contrast of the rows' paired differences,
rows independent, each with its own spread), or, where it says "every", on the worst of them: the largest of the rows'
p-values, which needs no adjustment (the intersection-union test: Berger 1982, Technometrics 24). p-values are two-sided
and 1 for the wrong sign, so that before any adjustment p < 0.05 and a 95% interval on the claimed side are the same;
Holm then adjusts them over the claims, and likewise those of the opposite. While networks of a claim lack runs, it is
not answered from the others.

Networks that differ in size differ in much else: an answer about size is one about these six.
"""

from repro.analysis.claims.answers import QUESTIONS, Answer, Claim, Question, assess_claims
from repro.analysis.claims.claim_tests import Finding

__all__ = ["QUESTIONS", "Answer", "Claim", "Finding", "Question", "assess_claims"]
