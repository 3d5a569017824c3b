"""``biasrepro cite``: BibTeX of the paper and of this software."""

from __future__ import annotations

import repro

_SOFTWARE = """\
@software{biasrepro,
  title   = {{biasrepro}: a reproduction of {Tables 1 and 2} of {Bias Loss for Mobile Neural Networks}},
  author  = {{The biasrepro authors}},
  version = {@version@}
}
"""


def cite() -> None:
    """Print BibTeX of the paper and of this software."""
    from repro.experiment.papers import PAPERS

    for paper in PAPERS.values():
        print(paper.bibtex)
    print(_SOFTWARE.replace("@version@", repro.__version__), end="")
