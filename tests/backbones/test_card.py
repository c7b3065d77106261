"""The folder of weights: missing, fetched, verified, altered."""

import hashlib
from dataclasses import replace

import pytest

from rsft.backbones import simship
from rsft.backbones.card import (
    Remote,
    drop_tensors,
    fetch_weights,
    find_weights,
    verify_weights,
)
from rsft.errors import WeightsError
from tests.helpers.http_server import BODY, SHA, serving
from tests.helpers.messages import mentions


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def running():
    with serving() as server:
        yield server


@pytest.fixture
def server(running):
    running.requested_ranges = []
    return running


SHIPPED = simship.CARDS[0]


def card(url=None, size=None, sha256=None, md5=None):
    return replace(
        SHIPPED,
        name="x.y",
        weights=Remote("x.pth", url, size, sha256, "https://page", md5),
    )


def test_the_error_for_missing_weights_says_what_to_download(folder):
    with pytest.raises(WeightsError, match="are missing") as caught:
        find_weights(card("https://host/y.pth", 343_000_000))
    assert caught.value.location == str(folder / "x.pth")
    hint = (
        "run `rsft weights get x.y`, or download https://host/y.pth (343 MB) by"
        " hand to "
    )
    assert caught.value.hint == hint + str(folder / "x.pth")


def test_weights_without_a_url_are_fetched_by_hand(folder):
    with pytest.raises(WeightsError) as caught:
        fetch_weights(card())
    assert (
        caught.value.hint.startswith("create or download x.pth by hand (")
        and "https://page" in caught.value.hint
    )
    (folder / "x.pth").write_bytes(BODY)
    assert fetch_weights(card()).published is None
    assert find_weights(card()) == folder / "x.pth"


def test_published_weights_are_fetched_once_and_verified(server, folder):
    seen: list[tuple[int, int, str]] = []
    status = fetch_weights(
        card(server.url, len(BODY), SHA), lambda *step: seen.append(step)
    )
    assert (status.sha256, status.bytes, status.published) == (SHA, len(BODY), SHA)
    assert [path.name for path in folder.iterdir()] == ["x.pth"]
    assert seen[-1] == (len(BODY), len(BODY), "x.pth")
    assert (
        fetch_weights(card(server.url, len(BODY), SHA)) == status
        and len(server.requested_ranges) == 1
    )


def test_without_a_published_checksum_the_digest_is_recorded(server, folder):
    status = fetch_weights(card(server.url))
    assert status.published is None
    assert (folder / "x.pth.sha256").read_text() == f"{SHA}  x.pth\n"
    assert verify_weights(card(server.url)) == status
    (folder / "x.pth").write_bytes(BODY[:-1] + b"?")
    with pytest.raises(WeightsError, match=mentions("changed", "x.pth.sha256")):
        verify_weights(card(server.url))


@pytest.mark.parametrize(
    "published", [{"sha256": SHA[:8]}, {"md5": hashlib.md5(BODY).hexdigest()}]
)
def test_short_checksums_are_completed_by_a_record(server, folder, published):
    status = fetch_weights(card(server.url, **published))
    assert status.published and status.published != SHA
    assert (folder / "x.pth.sha256").exists()


@pytest.mark.parametrize(
    "published", [{"sha256": "0" * 8}, {"sha256": "0" * 64}, {"md5": "0" * 32}]
)
def test_other_file_is_an_error(folder, published):
    (folder / "x.pth").write_bytes(BODY)
    with pytest.raises(WeightsError, match="not the published file") as caught:
        verify_weights(card("https://host/y.pth", **published))
    assert caught.value.hint.startswith(
        "move the file away, then run `rsft weights get x.y`"
    )


def test_the_size_is_checked_before_the_hash(folder):
    (folder / "x.pth").write_bytes(b"123")
    with pytest.raises(WeightsError, match=mentions("3 bytes", "published one 4")):
        verify_weights(card("https://host/y.pth", 4, SHA))


@pytest.mark.parametrize("record", [b"", b"\xff\xfe"])
def test_damaged_record(folder, record):
    (folder / "x.pth").write_bytes(BODY)
    (folder / "x.pth.sha256").write_bytes(record)
    with pytest.raises(WeightsError, match="has changed"):
        verify_weights(card())


def test_the_shipped_weights_match_their_model_card():
    status = verify_weights(SHIPPED)
    assert status.published == status.sha256 and status.path == SHIPPED.weights
    assert fetch_weights(SHIPPED) == status


def test_tensors_of_a_module_are_left_out():
    state = dict.fromkeys(("head", "head.weight", "header.bias", "norm.weight"), 0)
    assert list(drop_tensors(state, "head")) == ["header.bias", "norm.weight"]
    assert list(drop_tensors(state, "norm", "header")) == ["head", "head.weight"]
