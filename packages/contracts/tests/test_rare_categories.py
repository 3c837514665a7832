"""A rare category is always known again, and a new one hardly ever taken for one."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts import rare_categories
from kingmaker_contracts.rare_categories import RareCategories


@given(st.sets(st.text(), max_size=50), st.sets(st.text(), max_size=50))
def test_every_category_of_training_is_known_and_no_other(training: set[str], live: set[str]) -> None:
    kept = rare_categories.of(training)
    known = rare_categories.read(msgspec.json.decode(msgspec.json.encode(kept), type=RareCategories))
    assert known is not None
    assert all(text in known for text in training)
    assert not any(text in known for text in live - training)


def test_of_forty_thousand_categories_a_new_one_is_told_but_for_chance() -> None:
    kept = rare_categories.of(f"training {i}" for i in range(40_000))
    known = rare_categories.read(kept)
    assert known is not None
    assert len(kept.hashes) <= 40_000 * rare_categories.HASH_BYTES
    assert sum(f"live {i}" in known for i in range(20_000)) <= 3  # 0.2 are expected


def test_hashes_of_a_later_release_are_not_guessed_at() -> None:
    assert rare_categories.read(RareCategories(b"abcde", "another")) is None


@pytest.mark.parametrize(
    ("hashes", "said"), [(b"abc", "multiple of 4"), (b"\2\0\0\0\1\0\0\0", "rise"), (b"ab" * 4, "rise")]
)
def test_hashes_that_cannot_be_are_refused(hashes: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RareCategories(hashes)
