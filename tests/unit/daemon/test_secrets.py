"""daemon/record/secrets.py: what counts as a secret in words and in output, beside oslo_utils' view."""

import itertools
import random
import re

import pytest
from oslo_utils import strutils

from rootwrap_daemon.daemon.record.secrets import (
    KEYS,
    MAX_OUTPUT,
    is_suspect,
    mask_text,
    mask_whole,
    mask_words,
    without_secrets,
)

SECRET = "hunter2"


def masked(*argv: str, hidden: frozenset[int] = frozenset()) -> list[str]:
    return mask_words(argv, 4096, hidden)


# Words


@pytest.mark.parametrize(
    "line",
    [
        "iscsiadm -m node -T iqn.x -o update -n node.session.auth.password -v hunter2",
        "iscsiadm -m node -o update -v hunter2 -n node.session.auth.password",
        "iscsiadm -m node -o update -n node.session.auth.password --value hunter2",
        "iscsiadm -m node -o update -n node.session.auth.password --value=hunter2",
        "iscsiadm -m node -o update --name=node.session.auth.password_in -vhunter2",
        "iscsiadm -m node -o update --name=node.session.auth.password --value hunter2",
        "iscsiadm -m discoverydb -o update -n discovery.sendtargets.auth.password -v hunter2 --op x",
        "ceph --id x --key hunter2 status",
        "ceph --id x --key=hunter2 status",
        "rbd map rbd/x --secret hunter2",
        "qemu-img info rbd:pool/image:id=x:key=hunter2:mon_host=h",
        "ovs-vsctl set interface x options:psk=hunter2",
        "ovs-vsctl set interface x options:psk=hunter2,remote_ip=10.0.0.1",
        "nmcli connection modify x wifi-sec.psk hunter2",
        "wpa_cli set_network 0 psk hunter2",
        "rabbitmqctl change_password hunter2",
        "mount -t cifs -o username=u,password=hunter2 //h/s /m",
        "curl -H X-Auth-Token:hunter2 http://h/",
        "curl -u user:hunter2 http://h/",
        "curl -uuser:hunter2 http://h/",
        "curl --user user:hunter2 http://h/",
        "git clone https://user:hunter2@host/x",
        "git clone https://hunter2@host/x",
        "openssl enc -k hunter2",
        "hdparm --security-unlock hunter2 /dev/sda",
        "hdparm --user-master u --security-set-pass hunter2 /dev/sda",
        "git clone https://user:p@ss:hunter2@host/x",
        "sshpass -p hunter2 ssh h",
        "ip netns exec n sshpass -phunter2 ssh h",
        "/usr/bin/ipmitool -H h -U u -P hunter2 power status",
        "ldapsearch -D cn=x -w hunter2",
        "ldappasswd -s hunter2 cn=x",
        "mysql -phunter2 -u root db",
        "mysqladmin -u root password hunter2",
        "curl --proxy-user u:hunter2 http://h/",
        "curl --oauth2-bearer hunter2 http://h/",
        "wget --password=hunter2 http://h/",
        "wget --header X-Auth:hunter2 http://h/",
        "smbclient -U u%hunter2 //h/s",
        "smbclient -Uu%hunter2 //h/s",
        "openssl rsa -passin pass:hunter2 -in k",
        "openssl enc -aes-256-cbc -K hunter2 -in k",
        "openssl passwd -6 hunter2",
        "psql postgresql://u:hunter2@h/db",
        "psql host=h,password=hunter2",
        "redis-cli -a hunter2 info",
        "mongo -u a -p hunter2 db",
        "mongosh -u a -phunter2 db",
        "rabbitmqctl add_user u hunter2",
        "rabbitmqctl authenticate_user u hunter2",
        "htpasswd -b f u hunter2",
        "htpasswd -nb u hunter2",
        "useradd -p hunter2 u",
        "usermod --password hunter2 u",
        "zip -P hunter2 a.zip f",
        "unzip -Phunter2 a.zip",
        "7z x -phunter2 a.7z",
        "rar a -hphunter2 a.rar f",
        "env BORG_PASSPHRASE=hunter2 borg list",
        "env RESTIC_PASSWORD=hunter2 restic backup",
        "rsync --password=hunter2 a b",
        "docker login -u u -p hunter2 r",
        "ssh-keygen -N hunter2 -f k",
        "ip xfrm state add src a dst b proto esp spi 1 enc cbc(aes) hunter2",
        "ip macsec add m0 tx sa 0 pn 1 on key 01 hunter2",
        "wpa_passphrase net hunter2",
        "vault login hunter2",
        "radtest u hunter2 h 0 s",
        "radclient h auth hunter2",
        "snmpset -v2c -chunter2 h x",
        "cryptsetup --key hunter2 open /dev/x y",
        "timeout 5 nice mysqldump -phunter2 db",
        "twine upload -p hunter2 f",
        "racadm -r h -u u -phunter2 getsysinfo",
        "ipa-client-install -p u -w hunter2",
        "xfreerdp /p:hunter2 /v:h",
        "curl -H X-Auth:hunter2 http://h/",
        "skopeo copy --src-creds u:hunter2 a b",
        "etcdctl --user root:hunter2 get k",
        "kubectl create secret generic x --from-literal=a=hunter2",
        "openssl dgst -hmac hunter2 f",
        "ipmitool user set password 2 hunter2",
        "ipmitool lan set 1 snmp hunter2",
        "mc alias set a http://h k hunter2",
        "npm config set //r/:_authToken hunter2",
        "pdftk a input_pw hunter2 output b",
        "samba-tool user create u hunter2",
        "sqlplus u/hunter2@db",
        "virsh secret-set-value u hunter2",
        "virsh secret-set-value --base64 hunter2 u",
        "vault operator unseal hunter2",
        "storcli /c0 set securitykey=hunter2",
        "x --os-password1 hunter2",
        "x --apiKey hunter2",
        "x --client-secret hunter2",
        "x fernetkey=hunter2",
        "x --ask-password=hunter2",
        "x --no-ask-password --password hunter2",
        "x Authorization=hunter2",
    ],
)
def test_a_secret_by_its_place(line: str) -> None:
    argv = tuple(line.split())
    assert SECRET in " ".join(argv)
    found = masked(*argv)
    assert SECRET not in " ".join(found)
    assert len(found) == len(argv)
    # The command can still be told.
    assert found[0] == argv[0]
    assert sum(shown == word for shown, word in zip(found, argv, strict=True)) >= len(argv) - 2


@pytest.mark.parametrize("word", [f"{{'{SECRET}': 1}}", SECRET, f"a {SECRET} b"])
@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_output_is_one_of_words(key: str, word: str) -> None:
    for argv in (
        ("x", f"{key}={word}"),
        ("x", f"{key}: {word}"),
        ("x", f"--{key}", word),
        ("x", f"--{key}={word}"),
        ("x", f"a={SECRET[0]},{key.upper()}={word}"),
        ("x", f"--name=my.{key}", "-v", word),
        ("x", "-n", f"node.{key}", "-v", word),
        ("x", f'{{"{key}": "{word}"}}'),
        ("x", f"<{key}>{word}</{key}>"),
    ):
        assert SECRET not in "".join(masked(*argv)), argv


@pytest.mark.parametrize(
    "line",
    [
        "ip link show",
        "ip -n ns link set dev tap0 up",
        "iptables -A INPUT -p tcp --dport 22 -v -j ACCEPT",
        "getent passwd root",
        "cat /etc/passwd",
        "monkey=5 keyboard=us",
        "ceph --keyring /etc/ceph/k status",
        "x --password-file /etc/x",
        "http://host:80/a@b",
        "ovs-vsctl -v add-br br0",
        "sysctl kernel.keys.maxkeys=200",
        "systemctl --no-ask-password restart a.service",
        "pg_dump -Fc --no-password app",
        "ansible -m ping --ask-become-password all -v x",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert masked(*line.split()) == line.split()


def test_places_that_a_filter_names() -> None:
    assert masked("x", "a", "b", "c", hidden=frozenset((2,))) == ["x", "a", "***", "c"]
    assert masked("x", "a", hidden=frozenset((7,))) == ["x", "a"]
    long = ("x", "a", *["y"] * 20000)
    assert mask_words(long, 4096, frozenset((1,)))[:3] == ["x", "***", "y"]


def test_a_long_argv_hides_more_and_never_less() -> None:
    rest = ["y"] * 20000
    for argv in (("x", "--key", SECRET), ("x", "-n", "a.password", "-v", SECRET), ("sshpass", "-p", SECRET)):
        assert SECRET not in mask_whole((*argv, *rest))
        assert SECRET not in mask_words((*argv, *rest), 4096)
        assert SECRET not in mask_words(("x", "-v", SECRET, *rest, *argv), 4096)


@pytest.mark.parametrize(
    "word", ["key", "pwd-", "a.key", "-v", "--x=password", "psk=", "<key>", "cookie: ", "api-", "pre-shared"]
)
def test_no_word_holds_the_interpreter(word: str) -> None:
    """Where a pattern goes back and forth this takes minutes."""
    for argv in ((word * 2000,), (word,) * 2000, ("-" + word * 2000,), (word * 500, "-v", word * 500)):
        for _ in range(20):
            mask_words(argv, 16384)
        is_suspect(argv)


# Output


def test_the_table_has_every_key_of_oslo_utils() -> None:
    assert set(strutils._SANITIZE_KEYS) <= set(KEYS)


FORMS = (
    *("{k}={s}", "{k} = {s}", '{k}="{s}"', "{k} = '{s}'", '{k} "{s}"', "--{k} {s}", "--{k} {s} x"),
    *("<{k}>{s}</{k}>", '"{k}": "{s}"', "'{k}' : '{s}'", "'{k}': u'{s}'", "'a_{k}': '{s}'", "{k}1={s}"),
    *("'{k}', '--opt', '{s}'", "{k} -v {s}", "{k} --value {s} more", "x\n{k}={s}\ny", '{{"{k}" : "{s}"}}'),
)


@pytest.mark.parametrize("form", FORMS)
def test_ordinary_output_is_as_oslo_utils_has_it(form: str) -> None:
    for key, secret, around in itertools.product((*KEYS, "PASSWORD"), (SECRET, "a+/=="), ("{}", "a {} b\n")):
        text = around.format(form.format(k=key, s=secret))
        assert mask_text(text) == strutils.mask_password(text), text


def test_no_secret_stays_that_oslo_utils_finds() -> None:
    """Fragments at random: whatever mask_password takes out is taken out here."""
    choose = random.Random(1)
    fragments = (
        *("=", " = ", ": ", '"', "'", " ", "\n", "--", "-x", "<", ">", "</", "u", "{", "}", ",", "a", "0"),
        *("12", "^", "\\", "-v ", "'--opt'", "name", '"a": "b"', "\u2028", "é"),
    )
    for _ in range(20000):
        parts = []
        for _ in range(choose.randint(1, 9)):
            kind = choose.random()
            if kind < 0.3:
                parts.append(choose.choice(KEYS))
            elif kind < 0.5:
                parts.append(f"S{choose.randint(0, 9)}Q")
            else:
                parts.append(choose.choice(fragments))
        text = "".join(parts)
        ours = mask_text(text)
        # Theirs takes ten times as long: where nothing stays, it has nothing to say.
        if left := set(re.findall(r"S\dQ", ours)):
            theirs = strutils.mask_password(text)
            assert all(ours.count(one) <= theirs.count(one) for one in left), text


def test_quotes_inside_a_secret() -> None:
    assert mask_text(r'{"password": "a\"hunter2", "b": "c"}') == '{"password": "***", "b": "c"}'
    assert mask_text("""{'token': 'a"hunter2', 'b': 'c'}""") == "{'token': '***', 'b': 'c'}"


def test_output_without_a_name_of_a_secret_is_the_same() -> None:
    data = bytes(range(256)) * 16
    assert without_secrets(data) is not data
    assert without_secrets(data) == data
    assert without_secrets(b"password=x \xff\xfe") == b"password=*** \xff\xfe"


@pytest.mark.parametrize(
    "text",
    ["password ", '"password', '"password":"', "password -", "--password", "<password>", 'password="', '"\\'],
)
def test_no_output_holds_the_interpreter(text: str) -> None:
    """Where a pattern goes back and forth this takes hours."""
    whole = (text * MAX_OUTPUT)[:MAX_OUTPUT]
    mask_text(whole)
    mask_text(f'"password":"{whole}')
