"""The seeded bugs still apply to the product: `make mutants` shows that each is caught."""

import pytest

from tests.chaos.mutants.run import check_applies
from tests.chaos.mutants.table import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_seeded_bug_still_applies(mutant: Mutant) -> None:
    check_applies(mutant)
