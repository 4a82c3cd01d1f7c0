"""Programs whose words are secrets though their names do not say so: by option, by keyword, or at the end.

Sources: the manual page of each.
"""

from typing import Final

# Programs | options whose value is a secret, glued (one letter), behind `=` or the next word.
_OPTIONS: Final = """
7z 7za 7zr rar unrar | -p -hp
adcli | --login-password
az buildah docker doveadm expect fence_ipmilan groupadd groupmod helm hponcfg influx ipmi-power ipmipower | -p
mariadb mariadb-admin mariadb-dump mysql mysqladmin mysqlcheck mysqldump mysqlimport mysqlshow nerdctl | -p
pcs pdbedit podman rabbitmqadmin racadm rdesktop skopeo spawn sshpass twine useradd usermod xfreerdp | -p /p:
bcp hydra mosquitto_pub mosquitto_sub sqlcmd unzip zip zipinfo | -P
cqlsh kadmin mongo mongodump mongoexport mongofiles mongoimport mongorestore mongosh | -p -w
buildah etcdctl kubectl podman skopeo virsh | --creds --src-creds --dest-creds --user --base64 --from-literal
curl | -u --user -U --proxy-user --oauth2-bearer -b -H --header --proxy-header
curlftpfs lftp | -u
hdparm | --security-set-pass --security-unlock --security-erase --security-erase-enhanced --security-disable
ipmitool ipmipower ipmiconsole | -P -k -y
ipa-client-install ldapadd ldapcompare ldapdelete ldapexop ldapmodify ldapmodrdn ldapsearch ldapwhoami | -w
ldappasswd | -w -s -a
net rpcclient smbcacls smbclient smbget smbstatus wmic | -U -A
openssl | -pass -passin -passout -K -passkey -hmac
redis-cli valkey-cli | -a
snmpbulkget snmpbulkwalk snmpget snmpgetnext snmpset snmptrap snmpwalk | -A -X -c
ssh-keygen | -N -P
swaks | -ap -a
wget | --http-user --ftp-user --user --header
"""
# Programs | keyword and the number of the word behind it that is a secret; `.` for the program itself.
_KEYWORDS: Final = """
htpasswd htdigest | -b 3 -nb 2 -bn 2 -cb 3 -bc 3 -Bb 3 -bB 3 -cbB 3 -Bbc 3
ip | enc 2 auth 2 auth-trunc 2 aead 2 key 2
iw iwconfig iwpriv | key 1 keys 1
ipmitool | password 2 snmp 1
mc npm pdftk rclone samba-tool virsh | add 2 add 4 create 2 input_pw 1 obscure 1 set 2 set 4 user_pw 1
mkpasswd sqlplus | . 1 . 2
mysqladmin mariadb-admin | password 1
openssl | -k 1 passwd 1 passwd 2 passwd 3
rabbitmqctl | add_user 2 change_password 2 authenticate_user 2
radclient | auth 1 acct 1
radtest | . 2 . 5
vault virsh | login 1 unseal 1 secret-set-value 2
wpa_passphrase | . 2
"""


def _rows(table: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in table.strip().splitlines():
        names, _, words = row.partition(" | ")
        for name in names.split():
            found[name] = found.get(name, []) + words.split()
    return found


def _places(words: list[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for keyword, place in zip(words[::2], words[1::2], strict=True):
        found[keyword] = (*found.get(keyword, ()), int(place))
    return found


#: Program -> options whose value is a secret.
OPTIONS: Final = {name: frozenset(words) for name, words in _rows(_OPTIONS).items()}
#: Program -> keyword -> how far behind it the secrets stand.
KEYWORDS: Final = {name: _places(words) for name, words in _rows(_KEYWORDS).items()}
#: Programs of either table.
PROGRAMS: Final = frozenset((*OPTIONS, *KEYWORDS))
