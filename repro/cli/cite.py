"""``biasrepro cite``: BibTeX of papers and of this software."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import repro
from repro.cli.references import tables_argument

_SOFTWARE = """\
@software{biasrepro,
  title   = {{biasrepro}: a reproduction of {Tables 1 and 2} of {Bias Loss for Mobile Neural Networks}},
  author  = {{The biasrepro authors}},
  year    = {2026},
@url@  version = {@version@}
}
"""


def cite(tables: Annotated[list[str] | None, tables_argument("the paper reproduced here")] = None) -> None:
    """Print BibTeX of the paper that a table is from, and of this software."""
    from repro.cli.references import chosen_tables
    from repro.experiment.papers import PAPERS

    papers = [table.paper for table in chosen_tables(tables, [])] if tables else PAPERS.values()
    for paper in {paper.id: paper for paper in papers if paper is not None}.values():
        print(paper.bibtex or f"% {paper.citation}\n")
    url = _address()
    entry = _SOFTWARE.replace("@url@", f"  url     = {{{url}}},\n" if url else "")
    print(entry.replace("@version@", repro.__version__), end="")


def _address() -> str | None:
    """The address of the repository, as the installed package declares it (``project.urls``); None if it has none."""
    try:
        declared = metadata.metadata("biasrepro").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return None
    addresses = dict(entry.split(", ", 1) for entry in declared)
    return addresses.get("Repository")
