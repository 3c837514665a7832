"""Ending together: a cancellation that got lost is said again, and last words are not cut off."""

import asyncio

import pytest

from kingmaker_controller.ground import together


async def test_a_task_that_lost_its_cancellation_is_told_again() -> None:
    told = 0

    async def deaf() -> None:
        nonlocal told
        while told < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told += 1

    async def ends() -> None:
        await asyncio.sleep(0)

    async with asyncio.timeout(20):
        await together(deaf(), ends(), last_words_s=0.01)
    assert told == 3


async def test_last_words_are_not_cut_off_and_the_first_failure_is_raised() -> None:
    said = []

    async def speaks() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            said.append("the end")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        await together(speaks(), fails())
    assert said == ["the end"]
