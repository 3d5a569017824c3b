"""``biasrepro cite``: BibTeX of the paper and of this software."""

from __future__ import annotations

import repro

_PAPER = """\
@inproceedings{abrahamyan2021bias,
  title     = {Bias Loss for Mobile Neural Networks},
  author    = {Abrahamyan, Lusine and Ziatchin, Valentin and Chen, Yiming and Deligiannis, Nikos},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)},
  pages     = {6556--6566},
  year      = {2021},
  month     = oct
}
"""

_SOFTWARE = """\
@software{biasrepro,
  title   = {{biasrepro}: a reproduction of {Tables 1 and 2} of {Bias Loss for Mobile Neural Networks}},
  author  = {{The biasrepro authors}},
  version = {@version@}
}
"""


def cite() -> None:
    """Print BibTeX of the paper and of this software."""
    print(_PAPER)
    print(_SOFTWARE.replace("@version@", repro.__version__), end="")
