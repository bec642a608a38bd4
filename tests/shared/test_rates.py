"""Rate limits as people write them, in a tool's manifest and as a connection's setting."""

import msgspec
import pytest

import headrace
from headrace.errors import ValidationError
from headrace.events.base import RateLimit
from headrace.plans.model import manifest_digest
from headrace.specs.rates import parse, written
from headrace.worker.manifests import manifest_of


@pytest.mark.parametrize(
    ("said", "limit", "period_s"), [("100/1m", 100, 60), ("5/1s", 5, 1), ("1/1h30m", 1, 5_400), ("10/500ms", 10, 0.5)]
)
def test_a_rate_limit_says_how_many_in_which_time(said: str, limit: int, period_s: float) -> None:
    assert parse(said) == RateLimit(limit=limit, period_s=period_s)
    assert written(parse(said)) == said


@pytest.mark.parametrize("said", ["100", "100/", "/1m", "many/1m", "100/1", "100/0s", "-1/1s", "1/400d", 100, None])
def test_what_is_no_rate_limit_is_refused_with_an_example(said: object) -> None:
    with pytest.raises(ValidationError, match="such as 100/1m"):
        parse(said)


@pytest.mark.parametrize("said", ["0/1s", "10001/1s"])
def test_a_rate_limit_has_bounds(said: str) -> None:
    with pytest.raises(ValidationError, match="1 to 10000"):
        parse(said)


def test_a_tool_says_its_rate_limit_and_its_digest_is_anothers() -> None:
    def look(word: str) -> dict[str, str]:
        """Look a word up."""
        return {"word": word}

    limited, free = manifest_of(headrace.tool(rate_limit="3/1s")(look)), manifest_of(headrace.tool(look))
    assert limited.rate_limit == RateLimit(limit=3, period_s=1)
    assert manifest_digest(limited) != manifest_digest(free)
    with pytest.raises(ValidationError, match="such as 100/1m"):
        headrace.tool(rate_limit="often")(look)


def test_a_tool_without_one_keeps_the_digest_that_it_had_before_rate_limits() -> None:
    @headrace.tool
    def look(word: str) -> dict[str, str]:
        """Look a word up."""
        return {"word": word}

    assert "rate_limit" not in msgspec.to_builtins(manifest_of(look))
