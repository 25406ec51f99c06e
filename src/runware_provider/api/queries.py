"""Query strings, beyond what the framework checks."""

from collections import Counter
from collections.abc import Collection

from starlette.requests import Request

from runware_provider.errors import InvalidArgs


def refuse_repeats(request: Request, *, lists: Collection[str] = ()) -> None:
    """Raises InvalidArgs for a parameter that is given twice; the framework would take one of them without a word.

    `lists`: those that are repeated on purpose.
    """
    counts = Counter(name for name, _ in request.query_params.multi_items() if name not in lists)
    issues = [(name, "is given more than once") for name, count in counts.items() if count > 1]
    if issues:
        raise InvalidArgs(issues)
