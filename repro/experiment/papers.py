"""The papers whose tables are reproduced. Add one to ``PAPERS``, or describe it in the YAML file of its table."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from repro.experiment.fields import Identifier, Strict, Title, known


class Paper(Strict):
    """A published paper. ``citation`` is one line of text; ``biasrepro cite`` prints ``bibtex``.

    ``tables`` are the files of the paper's tables, beside the one that lists them: they are one family of tests.
    """

    id: Annotated[Identifier, Field(description="A name for the paper, such as smith2024.")]
    citation: Annotated[Title, Field(description="The paper in one line: authors, venue, year.")]
    bibtex: Annotated[str, Field(description="Its BibTeX, for `biasrepro cite FILE`.")] = ""
    tables: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[^/]+\.ya?ml$")], ...],
        Field(
            strict=False,
            description="The files of the paper's tables, in the folder of this file: one family of tests.",
        ),
    ] = ()


PAPERS: dict[str, Paper] = {
    "bias_loss": Paper(
        id="bias_loss",
        citation="Abrahamyan, Ziatchin, Chen, Deligiannis, ICCV 2021, arXiv 2107.11170",
        bibtex="""\
@inproceedings{abrahamyan2021bias,
  title     = {Bias Loss for Mobile Neural Networks},
  author    = {Abrahamyan, Lusine and Ziatchin, Valentin and Chen, Yiming and Deligiannis, Nikos},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)},
  pages     = {6556--6566},
  year      = {2021},
  month     = oct,
  url       = {https://arxiv.org/abs/2107.11170}
}
""",
    )
}


def _of_its_name(value: Any) -> Any:
    return PAPERS[known("paper", PAPERS)(value)] if isinstance(value, str) else value


_PaperName = Annotated[str, WithJsonSchema({"enum": list(PAPERS)})]
PaperChoice = Annotated[Paper, BeforeValidator(_of_its_name, json_schema_input_type=_PaperName | Paper)]
"""A name of ``PAPERS``, or a mapping with the keys of ``Paper``."""
