"""What a day has cost, and what the next generation may cost: the limit that is checked before money is spent."""

from collections.abc import Mapping

from runware_provider.durable import Birth
from runware_provider.durable.admission import price_micros, within_budget
from runware_provider.durable.records import day_of
from runware_provider.durable.sqlite_batch import Batch


class Money:
    """Spend by UTC day and the highest known price by model, in memory as the file has them."""

    def __init__(self, spend: dict[int, int], prices: dict[str, int]) -> None:
        self._spend = spend
        self._prices = prices

    @property
    def prices(self) -> Mapping[str, int]:
        """The highest cost that Runware reported, by model."""
        return self._prices

    def spent(self, day: int) -> int:
        """Micro-dollars of one day, with what is reserved for images that have no cost yet."""
        return self._spend.get(day, 0)

    def price(self, model: str | None) -> int:
        """What one image is expected to cost: the highest known of its model, else of any, never nothing."""
        return price_micros(self._prices.get(model or ""), max(self._prices.values(), default=None))

    def admit(self, birth: Birth, batch: Batch) -> int:
        """The price of one image of `birth`. Raises OverBudget when the day's budget does not hold it."""
        price = self.price(birth.model)
        if birth.daily_budget_micros is not None:
            day = day_of(birth.now)
            beside = sum(
                each.entry.generation.spent_micros()
                for each in batch.born.values()
                if day_of(each.entry.generation.register.created_at) == day
            )
            within_budget(birth, price, self.spent(day) + beside)
        return price

    def remember(self, batch: Batch) -> None:
        """What `batch` changed is committed."""
        for day, micros in batch.spend.items():
            self._spend[day] = self._spend.get(day, 0) + micros
        for model, micros in batch.prices.items():
            self._prices[model] = max(micros, self._prices.get(model, 0))
        while len(self._spend) > 40:
            del self._spend[min(self._spend)]
