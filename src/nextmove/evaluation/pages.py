"""Pages from the templates of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def page(template: str, filters: Mapping[str, Callable[..., Any]] | None = None, /, **values: Any) -> str:
    """The template NAME.html.j2 with these values, which are escaped; a value that it lacks is an error.

    filters: functions that the template calls by name.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("nextmove.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(f"{template}.html.j2").render(**values)
