"""Whether a generation may be made, as every engine asks it: a key that was used before, the price, the budget."""

from uuid import UUID

from runware_provider.durable import UNHEARD_PRICE_MICROS, Birth, Created
from runware_provider.errors import IdempotencyConflict, OverBudget


def made_before(birth: Birth, kept: tuple[UUID, str]) -> Created:
    """What the key of `birth` has made, when it stood for the same input. Raises IdempotencyConflict.

    `kept`: the generation, and the digest of the input that it was made for.
    """
    if birth.idempotency is not None and kept[1] != birth.idempotency[1]:
        raise IdempotencyConflict("this Idempotency-Key was used with another input; send a new key for a new request")
    return Created(kept[0], created=False)


def price_micros(of_model: int | None, highest: int | None) -> int:
    """What one image is expected to cost: the highest known of its model, else of any, never nothing."""
    return of_model or highest or UNHEARD_PRICE_MICROS


def within_budget(birth: Birth, price: int, spent: int) -> None:
    """Raises OverBudget when the day's budget does not hold `birth` beside what is spent."""
    wanted = price * birth.expected
    if birth.daily_budget_micros is not None and spent + wanted > birth.daily_budget_micros:
        raise OverBudget(birth.daily_budget_micros, spent, wanted)
