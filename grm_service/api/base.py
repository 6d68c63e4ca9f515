"""The base of the models in requests and replies, which takes descriptions from docstrings of fields."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Described(BaseModel):
    """A model whose field docstrings are the descriptions in the OpenAPI document."""

    model_config = ConfigDict(use_attribute_docstrings=True)
