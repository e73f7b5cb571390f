"""The settings of a board: what is accepted, refused, and how their file changes; and what ``flash`` makes of its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsbuild.delivery import card
from lsbuild.delivery.card_settings import changed, fault, parse, taken
from lsbuild.errors import TargetError, VerifyError
from lsbuild.packing import mbr

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIY8fFdGMyBkQ5bQ1zYpU7M3nYzxyfWcE2NwZtY0d1aB you@laptop"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hostname", "kitchen-2"),
        ("ssh_key", KEY),
        ("ssh_key", "sk-ssh-ed25519@openssh.com " + "A" * 60),
        ("timezone", "America/Argentina/Buenos_Aires"),
        ("timezone", "UTC"),
        ("wifi_ssid", "Straße 7"),
        ("wifi_password", "correct horse battery"),
        ("wifi_password", "0" * 64),
        ("wifi_country", "DE"),
        ("address", "2001:db8::5/64"),
        ("gateway", "192.168.1.1"),
        ("env.OPENAI_API_KEY", "sk-1 2=3"),
    ],
)
def test_what_a_board_takes(name: str, value: str) -> None:
    assert fault(name, value) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hostname", "-a"),
        ("hostname", "a" * 64),
        ("hostname", "köln"),
        ("ssh_key", "AAAA"),
        ("ssh_key", KEY.replace("ssh-ed25519", "ssh-dss")),
        ("timezone", "../../etc/shadow"),
        ("wifi_ssid", "x" * 33),
        ("wifi_password", "seven77"),
        ("wifi_password", "ü" * 10),
        ("wifi_country", "de"),
        ("address", "192.168.1.300/24"),
        ("dns", "one.one.one.one"),
        ("env.A-B", "1"),
        ("Hostname", "kitchen"),
    ],
)
def test_what_a_board_refuses(name: str, value: str) -> None:
    assert fault(name, value)


def test_the_last_value_counts_and_commented_lines_do_not() -> None:
    found, faults = parse("#hostname=a\nhostname = b \nhostname=c\nssh_key=\n\n")
    assert found == {"hostname": ["b", "c"]}
    assert faults == []


def test_secrets_go_and_everything_else_stays() -> None:
    text = "hostname=a\n#env.OLD=1\nenv.TOKEN=secret\nwifi_password=\n"
    assert taken(text) == "hostname=a\n#env.OLD=1\n# env.TOKEN was taken over\nwifi_password=\n"
    assert taken(taken(text)) == taken(text)


def test_a_change_replaces_what_was_said_of_the_same_name() -> None:
    assert changed("a=1\nhostname=x\n#b\n", {"hostname": ["y"], "dns": ["1.1.1.1", "9.9.9.9"]}) == (
        "a=1\n#b\nhostname=y\ndns=1.1.1.1\ndns=9.9.9.9\n"
    )


def test_options_become_settings(tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text(f"# mine\n{KEY}\n\n")
    found = card.settings(
        ["timezone=UTC", "dns=1.1.1.1", "dns=9.9.9.9"], hostname="k", ssh_keys=[tmp_path / "id.pub"], wifi="n"
    )
    assert found == {
        "timezone": ["UTC"],
        "dns": ["1.1.1.1", "9.9.9.9"],
        "hostname": ["k"],
        "wifi_ssid": ["n"],
        "ssh_key": [KEY],
    }


def test_a_private_key_is_not_put_on_a_card(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(TargetError, match="is a private key") as refused:
        card.settings([], ssh_keys=[tmp_path / "id"])
    assert refused.value.hint == f"name {tmp_path}/id.pub"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hostname": ["a b"]}, "hostname 'a b' is no name of a machine"),
        ({"nmae": ["x"]}, "'nmae' is no setting"),
        ({"env.A": ["1\nhostname=x"]}, "is not one line"),
        ({"wifi_password": ["long enough"]}, "needs its name"),
    ],
)
def test_what_the_board_would_refuse_is_refused_before_anything_is_written(
    settings: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(TargetError, match=message):
        card.require(settings)


def test_a_setting_needs_a_name() -> None:
    with pytest.raises(TargetError, match=r"'hostname' is no NAME=VALUE"):
        card.settings(["hostname"])


def test_the_table_is_read_as_it_was_written() -> None:
    sector = mbr.table(b"\x01\x02\x03\x04", (2048, 100), (2148, 900))
    assert len(sector) == mbr.SECTOR
    assert mbr.partitions(sector) == ((2048, 100), (2148, 900))
    assert mbr.partition_id(b"\x01\x02\x03\x04", 2) == "04030201-02"


@pytest.mark.parametrize("sector", [b"", bytes(512), bytes(510) + b"\x55\xaa"])
def test_a_card_without_the_two_partitions_is_told(sector: bytes) -> None:
    with pytest.raises(VerifyError, match=r"table of partitions|two partitions"):
        mbr.partitions(sector)
