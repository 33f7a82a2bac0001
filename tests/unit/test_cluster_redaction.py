"""What looks like a secret is taken out of a text, whatever form it has, in time that grows with the text alone."""

from __future__ import annotations

import base64
import time

import pytest

from labctl.cluster import redaction, secretforms
from labctl.cluster.secretforms import GONE

PASSWORD = "c4naryHunter"
WORDS = "canary horse battery"
RANDOM = "CANARYabc0123456789CANARYxyz0123456789"
BODY = "MIIEpAIBAAKCAQEAcanaryCANARY0123456789abcdefghijklmnopqrstuvwxyz"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n{BODY}\ncanary==\n-----END RSA PRIVATE KEY-----"
ENCODED_PEM = base64.b64encode(PEM.encode()).decode()
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJDQU5BUlkiOjF9.c4narySignature"
PAIR = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
HEX = "c4nary" + "0123456789abcdef" * 3 + "c4nary1234"
CRI = "2026-11-28T18:58:57.123456789Z stderr F "

SECRETS = {
    "bearer token": (f"Authorization: Bearer {RANDOM}", RANDOM),
    "bearer token in prose": (f'calling with bearer {RANDOM}" failed', RANDOM),
    "header in JSON": (f'{{"Authorization":["Bearer {RANDOM}"],"Accept":["*/*"]}}', RANDOM),
    "header of curl": (f"curl -H 'Authorization: Basic {PAIR}' https://x", PAIR),
    "cookie": (f"curl -H 'Cookie: session={PASSWORD}; b={RANDOM}'", PASSWORD, RANDOM),
    "JWT": (f"presented {JWT} to the server", JWT, "c4nary"),
    "JWT that was cut": (f"presented {JWT[:30]}", JWT[:30]),
    "URL": (f"GET https://user:{PASSWORD}@registry.example:5000/v2/", PASSWORD),
    "URL with a token only": (f"git clone https://{RANDOM}@git.example/x", RANDOM),
    "URL with an at sign": (f"https://user:p@{PASSWORD}@host/", PASSWORD),
    "data source": (f"root:{PASSWORD}@tcp(mysql:3306)/db", PASSWORD),
    "proxy variable": (f'"HTTPS_PROXY=http://user:{PASSWORD}@proxy.example:3128",', PASSWORD),
    "proxy with a slash": (f"http_proxy=http://user:a/{PASSWORD}@proxy.example:3128", PASSWORD),
    "proxy without a scheme": (f"ALL_PROXY=user:{PASSWORD}@proxy.example:3128", PASSWORD),
    "kubeconfig": (f"    client-key-data: {ENCODED_PEM}\n    client-certificate-data: {ENCODED_PEM}", ENCODED_PEM),
    "kubeconfig token": (f"users:\n- name: me\n  user:\n    token: {WORDS[:6]}", WORDS[:6]),
    "kubeconfig in JSON": (f'{{"user":{{"client-key-data":"{ENCODED_PEM}","token":"canary"}}}}', ENCODED_PEM, "canary"),
    "private key": (PEM, BODY, "canary"),
    "private key without end": (PEM[:90], "MIIEp"),
    "private key in a log": ("\n".join(CRI + line for line in PEM.splitlines()), BODY, "canary"),
    "private key in YAML": ("  tls.key: |\n" + "\n".join("    " + line for line in PEM.splitlines()), BODY, "canary"),
    "encrypted private key": (
        f"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{BODY}\n-----END EC PRIVATE KEY-----", BODY,
    ),
    "private key without beginning": (f"{BODY}\n{BODY}\n-----END PRIVATE KEY-----", BODY),
    "private key on one line": (PEM.replace("\n", "\\n"), BODY, "canary"),
    "private key on one line, cut": (PEM.replace("\n", "\\n")[:120], BODY),
    "private key on one line of JSON": ('{"key": "' + PEM.replace("\n", "\\n") + '", "x": 1}', BODY, "canary"),
    "private key in base64": (f"got {ENCODED_PEM} here", ENCODED_PEM[:60], ENCODED_PEM[-20:]),
    "key of PGP": (f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{BODY}\n-----END PGP PRIVATE KEY BLOCK-----", BODY),
    "bootstrap token": ("kubeadm join 10.0.0.1:6443 --token canary.0123456789abcdef", "0123456789abcdef"),
    "bootstrap token in prose": ("token canary.0123456789abcdef has expired", "0123456789abcdef"),
    "certificate key": (f"  --certificate-key {HEX}", HEX),
    "certificate key in YAML": (f"certificateKey: {HEX}", HEX),
    "docker's configuration": (f'{{"auths": {{"https://r.example": {{"auth": "{PAIR}"}}}}}}', PAIR),
    "docker's configuration in lines": (f'{{\n "auths": {{\n  "r": {{\n   "auth": "{PAIR}",', PAIR),
    "docker's configuration in base64": (
        '".dockerconfigjson":"' + base64.b64encode(b'{"auths":{"r":{"auth":"canary"}}}').decode(), "eyJhdXR",
    ),
    "identity token": (f'"identitytoken": "{PASSWORD}"', PASSWORD),
    "AWS": ("AKIACANARY0123456789 was used", "AKIACANARY"),
    "AWS secret": (f"aws_secret_access_key = {RANDOM}", RANDOM),
    "GitHub": (f"ghp_{RANDOM} and github_pat_{RANDOM}", RANDOM),
    "GitLab": (f"glpat-{RANDOM}", RANDOM),
    "Slack": ("xoxb-0123456789-canary01234 xapp-1-canary0123", "canary01"),
    "Slack's hook": ("https://hooks.slack.com/services/T0CANARY/B0CANARY/canary012345", "canary0"),
    "Google": (f"AIzaSy{RANDOM}", RANDOM),
    "OpenAI": (f"sk-proj-{RANDOM}", RANDOM),
    "Vault": (f"hvs.{RANDOM}", RANDOM),
    "npm": (f"npm_{RANDOM}", RANDOM),
    "environment": (f"DB_PASSWORD={PASSWORD}", PASSWORD),
    "environment in JSON": (f'"Env": ["DB_PASSWORD={WORDS}", "PATH=/bin"]', *WORDS.split()),
    "short password": ("MYSQL_PWD=c4n", "c4n"),
    "export": (f"export API_KEY={PASSWORD}", PASSWORD),
    "YAML": (f"password: {WORDS}", *WORDS.split()),
    "YAML in a log": (f"{CRI}  password: {WORDS}", *WORDS.split()),
    "YAML with quotes": (f"  - password: '{WORDS}'", *WORDS.split()),
    "YAML in many lines": ("password: |-\n  canary\n  c4nary\nnext: 1", "canary", "c4nary"),
    "JSON": (f'{{"password": "{WORDS}", "user": "u"}}', *WORDS.split()),
    "JSON with an escaped quote": (r'{"password":"can\"canary"}', "canary", "can"),
    "JSON in JSON": (rf'"{{\"password\":\"{WORDS}\",\"user\":\"u\"}}"', *WORDS.split()),
    "JSON in JSON in JSON": (rf'"\"{{\\\"token\\\":\\\"{PASSWORD}\\\"}}\""', PASSWORD),
    "JSON without spaces": (f'{{"a":1,"secretKey":"{PASSWORD}","b":2}}', PASSWORD),
    "Python": (f"{{'password': '{WORDS}'}}", *WORDS.split()),
    "Go": (f"{{User:u Password:{PASSWORD} Host:h}}", PASSWORD),
    "Go's container": (f"Env:[]EnvVar{{EnvVar{{Name:DB_PASSWORD,Value:{PASSWORD},ValueFrom:nil,}},}}", PASSWORD),
    "arguments": (f"app --password {PASSWORD} --verbose", PASSWORD),
    "argument with a sign": (f"app --db-password={PASSWORD} -token {PASSWORD}", PASSWORD),
    "arguments in JSON": (f'"Args": ["--password","{PASSWORD}"]', PASSWORD),
    "arguments in lines of JSON": (f'  "--password",\n  "{PASSWORD}",', PASSWORD),
    "arguments in YAML": (f"    - --token\n    - {PASSWORD}", PASSWORD),
    "arguments as kubectl describes them": (f"      --password\n      {PASSWORD}", PASSWORD),
    "user of curl": (f"curl -u user:{PASSWORD} https://x", PASSWORD),
    "variable in JSON": (f'{{"name":"DB_PASSWORD","value":"{WORDS}"}}', *WORDS.split()),
    "variable in YAML": (f"  - name: DB_PASSWORD\n    value: {WORDS}", *WORDS.split()),
    "variable in lines of JSON": (f'"name": "DB_PASSWORD",\n"value": "{WORDS}"\n', *WORDS.split()),
    "variable as kubectl describes it": (f"      DB_PASSWORD:  {WORDS}", *WORDS.split()),
    "question in a URL": (f"GET /x?user=u&token={PASSWORD}&a=b", PASSWORD),
    "connection string": (f"Server=s;AccountKey={RANDOM}==;Pwd={PASSWORD}", RANDOM, PASSWORD),
    "Secret in YAML": (f"apiVersion: v1\ndata:\n  x: {PAIR}\n  y: Y2FuYXJ5\nkind: Secret", PAIR, "Y2FuYXJ5"),
    "Secret in a log": (f"{CRI}data:\n{CRI}  x: Y2FuYXJ5\n{CRI}kind: Secret", "Y2FuYXJ5"),
    "Secret in plain YAML": ("stringData:\n  x: canary words\n  y: |\n    c4nary\nkind: Secret", "canary", "c4nary"),
    "Secret in JSON": (f'{{"kind":"Secret","data":{{"x":"{PAIR}","y":"Y2FuYXJ5"}}}}', PAIR, "Y2FuYXJ5"),
    "Secret in lines of JSON": (f'  "data": {{\n    "x": "{PAIR}",\n    "y": "Y2FuYXJ5"\n  }},', PAIR, "Y2FuYXJ5"),
    "Secret as it was applied": (r'last-applied: {\"data\":{\"x\":\"Y2FuYXJ5\"},\"kind\":\"Secret\"}', "Y2FuYXJ5"),
    "a value behind what is gone": (f"password={PASSWORD} token={RANDOM} password={PASSWORD}", PASSWORD, RANDOM),
}  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_what_looks_like_a_secret_is_taken_out_and_nothing_around_it(name: str) -> None:
    text, *canaries = SECRETS[name]
    clean = redaction.scrubbed(f"before it\n{text}\n\nafter it\n")
    assert clean.startswith("before it\n")
    assert GONE in clean
    for canary in canaries:
        assert canary not in clean
    if "without end" not in name:
        assert clean.endswith("\nafter it\n")


@pytest.mark.parametrize("name", SECRETS)
def test_doing_it_twice_changes_nothing_more(name: str) -> None:
    clean = redaction.scrubbed(SECRETS[name][0])
    assert redaction.scrubbed(clean) == clean


ORDINARY = """\
E1124 07:58:41 main.go:248] Failed to create SubnetManager: connection refused
kube-flannel   kube-flannel-ds-bhd6b   0/1   ImagePullBackOff   ghcr.io/flannel-io/flannel:v0.28.4
secret "memberlist" not found
using token authentication for the API server
Unable to authenticate the request" err="[invalid bearer token, Token has expired]"
MountVolume.SetUp failed for volume "kube-api-access-x7k2p" : failed to sync secret cache: timed out
      DB_PASSWORD:  <set to the key 'password' in secret 'db'>  Optional: false
    SecretName:  memberlist
automountServiceAccountToken: false
image: docker.io/kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5
Container ID:  containerd://a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5
  docker-pullable://kindest/node@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5
--authorization-mode=Node,RBAC --tls-private-key-file=/etc/kubernetes/pki/apiserver.key
--client-key=/etc/kubernetes/pki/etcd.key --token-auth-file=/etc/tokens --bootstrap-token-ttl 24h
failed to read token: permission denied
Get "https://10.96.0.1:443/api/v1/nodes?limit=500": dial tcp 10.96.0.1:443: i/o timeout (user@host)
/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/42/fs
/var/lib/docker/overlay2/l/ABCDEFGHIJKLMNOPQRSTUVWXYZ/usr/lib/gcc/x86/include/Linux/Kernel42
"phase": "nodes", "owner": "0wner", "pid": 1
HTTP_PROXY=http://proxy.example:3128 NO_PROXY=10.96.0.0/16,.svc
tests pass: three
  data:
    Corefile: |
      .:53 {
          forward . /etc/resolv.conf
    replicas: 3-5
panic: runtime error: index out of range [5] with length 3
goroutine 1 [running]: main.main() /app/main.go:12 +0x1d
"""


def test_ordinary_lines_stay_as_they_are() -> None:
    for line in ORDINARY.splitlines():
        assert redaction.scrubbed(f"{line}\n") == f"{line}\n"
    assert redaction.scrubbed(ORDINARY) == ORDINARY


def test_what_is_around_a_secret_stays() -> None:
    assert redaction.scrubbed('{"password": "x y", "user": "u"}') == f'{{"password": "{GONE}", "user": "u"}}'
    assert redaction.scrubbed("--password x --user u") == f"--password {GONE} --user u"
    assert redaction.scrubbed("https://u:p@host/path") == f"https://{GONE}@host/path"
    assert redaction.scrubbed(f"a {PEM.replace(chr(10), chr(92) + 'n')} z") == f"a {GONE} z"
    assert redaction.scrubbed(f"a\n{PEM}\nz\n") == f"a\n{GONE}\nz\n"


def test_a_key_that_never_ends_does_not_take_the_rest_of_the_text() -> None:
    text = "-----BEGIN PRIVATE KEY-----\n" + "word\n" * redaction.PEM_LINES_MOST + "the end\n"
    assert redaction.scrubbed(text) == f"{GONE}\nthe end\n"


PREFIXES = [
    "token=", "token: ", "token:", "password=", "password: ", '"password":"', '\\"password\\":\\"', "password='", "'",
    '"', "\\", "\\\\\"", "--password ", "--", "-", "--a", "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "-----END ",
    "BEGIN PRIVATE KEY", "eyJ", "eyJhbGciOiJ", ".eyJhbGciOiJ.", "-eyJhbGciOiJ", "eyJhbGciOiJ9.", "LS0tLS1CRUdJT",
    "://", "://u:", "http://", "http_proxy=", "http_proxy=http://", "_proxy", "@", ":p@", "Bearer ", "bearer a",
    "basic  ", "basic ~", "Authorization: ", "Authorization: Bearer ", "authorization=[", "cookie: a; ", "AKIA",
    "AKIAAAAA", "ghp_", "ghp_a-", "xoxb-", "xapp-", "sk-", "sk_live_", "hvs.", "a.b", "abcdef.0123456789", "a1b2c3.",
    "AGE-SECRET-KEY-1", "hooks.slack.com/services/", "AIza", "name:", "name: ", "name: token ", "name=a-",
    '"name":"token","value":', "Name:token,Value:", "data", '"data":{', '\\"data\\":{', '"data":{"a":"', "data:", " ",
    "\t", "\n", "\n ", "key: ", "-key=", "_key", "a", "A", "aA1", "aA1/", "aA1+", "=", "{", "[", "{password:", "é",
    "-u ", "-u a:", "--user ", "client-key-data: ", "certificate-key ", "secret", "secret ", "secret: {", "auth",
    "auth:", "auth [", "pass", "pwd:=", "token=>", "value: ", "|", "token: |\n", "data:\n a: b\n", "stringData:\n a",
    "<", "token=<", "token=true ", "token=/a", "token: /a ", "(token) = ", "access-key-id", "hf_a", "dckr_pat_",
    "do_v1_", "SG.",
]  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_megabyte_of_any_pattern_s_beginning_takes_no_second(prefix: str) -> None:
    text = (prefix * (1_000_000 // len(prefix) + 1))[:1_000_000]
    started = time.process_time()
    redaction.scrubbed(text)
    assert time.process_time() - started < 5, "each takes less than one second; a quadratic one takes minutes"


def test_ordinary_logs_are_searched_by_the_megabyte() -> None:
    text = ORDINARY * (2_000_000 // len(ORDINARY))
    started = time.process_time()
    redaction.scrubbed(text)
    assert time.process_time() - started < 10


def test_every_name_of_a_secret_is_found_by_the_quick_look() -> None:
    names = """password PASSPHRASE pwd client-key-data certificate-authority-data accessKeyId Authorization .dockercfg
        credentials set-cookie x-auth-token SIGNING_KEY"""
    for name in names.split():
        assert secretforms.may_name(f"x {name} y")
        assert redaction.scrubbed(f"{name}: c4nary") == f"{name}: {GONE}"
