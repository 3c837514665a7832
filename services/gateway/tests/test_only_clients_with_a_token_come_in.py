"""Which calls need a token, how its file is followed, and that no token is ever told."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from kingmaker_gateway import tokens
from kingmaker_gateway.settings import Settings
from kingmaker_gateway.tokens import BadTokens

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair


FIRST, SECOND, LABELS = "first-token-of-shop", "second-token-of-shop", "token-of-the-ledger"
PREDICT = "/v1/models/flights:predict"
BODY = {"instances": [{"distance": 1400, "carrier": "UA"}]}


def bearing(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "predict").write_text(f"shop:{FIRST}\n")
    (tmp_path / "feedback").write_text(f"ledger:{LABELS}\n")
    return {"predict_tokens_file": tmp_path / "predict", "feedback_tokens_file": tmp_path / "feedback"}


async def test_predictions_and_labels_have_tokens_of_their_own(
    valkey: Any, pair: "Pair", kit: "Kit", files: dict[str, Path]
) -> None:
    async with kit.running(kit.settings(valkey.url, auth=files), valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        statuses = {}
        for name, token in (("shop", FIRST), ("ledger", LABELS)):
            answer = await bench.client.post(PREDICT, json=BODY, headers=bearing(token))
            label = [{"prediction_id": "01a1fbe6-6e51-7641-9053-8349eb738100", "label": 1}]
            told = await bench.client.post("/v1/models/flights/feedback", json=label, headers=bearing(token))
            statuses[name] = (answer.status_code, told.status_code)
        assert statuses == {"shop": (200, 401), "ledger": (401, 202)}
        assert bench.metric("rejected_total", code="unauthorized") == 2


async def test_health_metadata_and_documentation_stay_open(
    valkey: Any, pair: "Pair", kit: "Kit", files: dict[str, Path]
) -> None:
    async with kit.running(kit.settings(valkey.url, auth=files), valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        paths = ("/", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models", "/v2/models/flights", "/docs")
        for path in (*paths, "/v2/models/flights/ready", "/v1/models", "/v1/models/flights", "/openapi.json"):
            assert (await bench.client.get(path)).status_code == 200, path


async def test_the_documentation_asks_for_the_token_where_it_is_needed(
    valkey: Any, kit: "Kit", files: dict[str, Path]
) -> None:
    async with kit.running(kit.settings(valkey.url, auth=files), valkey.client) as bench:
        document = (await bench.client.get("/openapi.json")).json()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    guarded = {path for path, methods in document["paths"].items() for docs in methods.values() if "security" in docs}
    assert guarded == {
        "/v1/models/{model}:predict",
        "/v1/models/{model}/feedback",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/versions/{variant}/infer",
    }
    assert all("401" in document["paths"][path]["post"]["responses"] for path in guarded)


async def test_a_gateway_without_files_is_open_and_says_so(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    assert (await bench.predict()).status_code == 200
    assert (await bench.predict(headers=bearing("whatever-it-may-be"))).status_code == 200
    document = (await bench.client.get("/openapi.json")).json()
    assert "securitySchemes" not in document.get("components", {})


async def test_a_changed_file_is_followed_and_a_broken_one_is_not(
    valkey: Any, pair: "Pair", kit: "Kit", files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    file = files["predict_tokens_file"]

    async def is_let_in(token: str) -> bool:
        answer = await bench.client.post(PREDICT, json=BODY, headers=bearing(token))
        return answer.status_code == 200

    with caplog.at_level(logging.INFO, "kingmaker_gateway.guard"):
        async with kit.running(kit.settings(valkey.url, auth=files), valkey.client) as bench:
            await bench.publish(pair.record(), pair.profiles)
            assert bench.metric("token_file_good", use="predict") == 1
            fresh = file.with_name("..data")  # a link is swapped, as in a mounted Secret
            fresh.write_text(f"shop:{SECOND}\n")
            file.unlink()
            file.symlink_to(fresh)
            await kit.until(lambda: is_let_in(SECOND))
            assert not await is_let_in(FIRST)
            fresh.write_text(f"shop:{FIRST}\nshop {SECOND}\n")
            await kit.until(lambda: bench.metric("token_file_good", use="predict") == 0)
            assert await is_let_in(SECOND) and not await is_let_in(FIRST)
            fresh.write_text(f"shop:{SECOND}\nshop:{FIRST}\n")
            await kit.until(lambda: is_let_in(FIRST))
            assert bench.metric("token_file_good", use="predict") == 1
            file.unlink()
            await kit.until(lambda: bench.metric("token_file_good", use="predict") == 0)
            assert await is_let_in(FIRST)
    told = " ".join(str(record.__dict__) for record in caplog.records)
    assert "shop" in told
    assert not any(token in told for token in (FIRST, SECOND, LABELS))


async def test_a_changed_file_that_could_not_be_opened_is_read_when_it_can(
    valkey: Any, pair: "Pair", kit: "Kit", files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it changes when its rights do, or when the process has a file to spare again."""
    file, read, failures = files["predict_tokens_file"], tokens.read, list[Path]()
    async with kit.running(kit.settings(valkey.url, auth=files), valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)

        def fail_twice(asked: Path) -> dict[bytes, str]:
            if len(failures) < 2:
                failures.append(asked)
                raise BadTokens("no rights")
            return read(asked)

        monkeypatch.setattr(tokens, "read", fail_twice)
        file.write_text(f"shop:{SECOND}\n")

        async def is_let_in() -> bool:
            return (await bench.client.post(PREDICT, json=BODY, headers=bearing(SECOND))).status_code == 200

        await kit.until(is_let_in)
        assert (await bench.client.post(PREDICT, json=BODY, headers=bearing(FIRST))).status_code == 401
    assert failures == [file, file]


def test_comments_and_blank_lines_are_none_and_a_name_may_repeat(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# of the shop\n\n  shop:{FIRST}  \nshop:{SECOND}\r\nother:a/b+c-d_e~f.ghi==\n")
    assert tokens.read(file) == {FIRST.encode(): "shop", SECOND.encode(): "shop", b"a/b+c-d_e~f.ghi==": "other"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no token in it"),
        ("# only a comment\n", "no token in it"),
        (f"shop={FIRST}\n", "line 1: no colon"),
        (f"\nthe shop:{FIRST}\n", "line 2: a name that is none"),
        (f":{FIRST}\n", "line 1: a name that is none"),
        ("shop:Secret\n", "line 1: a token of 6 characters; expected at least 16"),
        ("shop:Secret with blanks in it\n", "line 1: a token that cannot be sent"),
        ("shop:Secretä-not-of-ascii-letters\n", "line 1: a token that cannot be sent"),
        (f"a:{FIRST}\nb:{FIRST}\n", "line 2: a token that an earlier line has too"),
        ("#" * 2_000_000, "more than 1048576 bytes"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named_without_its_token(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(BadTokens) as refused:
        tokens.read(file)
    assert says in str(refused.value)
    assert not any(word in str(refused.value) for word in ("Secret", FIRST))


def test_a_file_that_is_not_there_is_a_setting_that_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(auth={"feedback_tokens_file": tmp_path / "gone"})
    [error] = refused.value.errors()
    assert error["loc"] == ("auth", "feedback_tokens_file")
    assert "No such file" in error["msg"]
