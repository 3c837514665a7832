"""From `kubectl apply` to an answer, and every edit after that."""

from typing import Any

SPEC = {"champion": {"name": "lr", "model": "models:/flights@champion"}}


def test_a_champion_is_created_and_answers(stage: Any) -> None:
    stage.controller()
    stage.start_gateway()
    assert stage.create(SPEC).status_code == 201
    stage.until(lambda: stage.condition("Programmed")["status"] == "True", "the champion is programmed", 60)
    assert stage.answered_by() == "lr"
