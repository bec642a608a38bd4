"""Drawing: the same draws for the same text, in every process."""

import random


class Chance(random.Random):
    """Draws that a text decides. Nothing secret is made of them."""

    def happens(self, share: float) -> bool:
        """Draw whether something happens that happens in this share of cases, 0 to 1."""
        return self.random() < share
