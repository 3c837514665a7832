"""py-spy's stacks into shares of a request's time."""

from benchmarks.sections import profile

RAW = """\
run (runners.py:118);data_received (servicekit/fast_http.py:80);handle (hot_path.py:9) 30
run (runners.py:118);data_received (fast_http.py:80);decode_v2 (kingmaker_gateway/usual.py:74);encode (json.py:3) 50
run (runners.py:118) 10
run (runners.py:118);_encode (recorder.py:9);build (envelope.py:3);array (signature.py:4) 10
py-spy> a word of its own
"""


def test_a_sample_counts_for_its_innermost_frame_of_ours() -> None:
    found = profile.shares(RAW.splitlines(), profile.GATEWAY)
    assert found == {
        "read rows": 0.5,
        "a request's own book-keeping": 0.3,
        "event loop: polling, reading sockets, calling back": 0.1,
        "record: columns of a flush, and Redis": 0.1,
    }


def test_without_samples_there_are_no_shares() -> None:
    assert profile.shares([], profile.GATEWAY) == {}


def test_no_file_belongs_to_two_steps() -> None:
    for steps in (profile.GATEWAY, profile.MODEL_SERVER):
        files = [file for _, owned in steps for file in owned]
        assert len(files) == len(set(files))
