"""Forms of secrets in texts, and texts that only resemble them.

The table comes from the documentation and the messages of clients, not from the code that redacts.
Every value is made up, or an example of its vendor's documentation.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from urllib.parse import quote

KEY_ID = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SESSION = "FwoGZXIvYXdzEBYaDExampleSessionToken//////////wE="
HEX = "fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024"
SIG = "Sk5uJ%2FexampleSig%2Bx2w%3D"
BASE64 = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq=="
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJleGFtcGxlIn0.c2lnbmF0dXJlLWV4YW1wbGU"
GOOGLE = "ya29.a0AfExampleAccessToken-x_y"
REFRESH = "1//0gExampleRefreshToken-x_y"
BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"
PASSWORD = "hunter2"


@dataclass(frozen=True)
class SecretForm:
    """A text, the parts of it that nobody may read, and parts that must stay readable."""

    name: str
    text: str
    secrets: tuple[str, ...]
    kept: tuple[str, ...] = ()


def pem(kind: str, newline: str = "\n") -> str:
    """Return a PEM block of this kind."""
    return newline.join(
        [f"-----BEGIN {kind}-----", BODY, "AbExampleSecondLine", f"-----END {kind}-----"]
    )


def _form(name: str, text: str, *secrets: str, kept: tuple[str, ...] = ()) -> SecretForm:
    return SecretForm(name, text, secrets, kept)


_USER_INFO = [
    _form(
        "user and password",
        f"sftp://ray:{PASSWORD}@host/dir",
        PASSWORD,
        kept=("sftp://", "host/dir"),
    ),
    _form(
        "key and secret", f"s3://{KEY_ID}:wJalrXUtnFEMI@host/b", "wJalrXUtnFEMI", kept=("host/b",)
    ),
    _form("@ in the password", "sftp://u:pa@REST@host/dir", "pa@", "REST", kept=("host/dir",)),
    _form("@ three times", "sftp://u:p1@p2@p3@host/dir", "p1", "p2", "p3", kept=("host/dir",)),
    _form(": in the password", "sftp://u:pa:REST@host", "REST", kept=("host",)),
    _form("/ in the password", "sftp://u:pa/REST@host/dir", "REST", "pa/", kept=("host/dir",)),
    _form("? and # in the password", "sftp://u:pa?RE#ST@host/dir", "RE#ST", kept=("host/dir",)),
    _form("quotes in the password", "sftp://u:pa'RE\"ST@host/dir", 'RE"ST', kept=("host/dir",)),
    _form("percent-encoded", "https://u:p%40ss%3Aword@host/b", "p%40ss", "word", kept=("host/b",)),
    _form("empty user", f"redis://:{PASSWORD}@host/0", PASSWORD, kept=("host/0",)),
    _form("@ in the user", f"ftp://me@work.org:{PASSWORD}@host/d", PASSWORD, kept=("host/d",)),
    _form("IPv6 host", f"http://u:{PASSWORD}@[::1]:3128/", PASSWORD, kept=("[::1]:3128",)),
    _form(
        "@ in the path", f"sftp://u:{PASSWORD}@host/d/me@work", PASSWORD, kept=("host/d/me@work",)
    ),
    _form(
        "two URIs",
        "http://u:one1@a/x and http://v:two2@b/y",
        "one1",
        "two2",
        kept=("a/x and ", "b/y"),
    ),
    _form(
        "list of URIs", "http://u:one1@a/x,http://v:two2@b/y", "one1", "two2", kept=("a/x", "b/y")
    ),
    _form(
        "chained", f"simplecache::sftp://u:{PASSWORD}@host/d", PASSWORD, kept=("simplecache::sftp",)
    ),
    _form(
        "escaped slashes", rf'{{"url": "http:\/\/u:{PASSWORD}@host\/d"}}', PASSWORD, kept=("host",)
    ),
    _form(
        "encoded as a whole",
        quote(f"http://u:{PASSWORD}@host/d", safe=""),
        PASSWORD,
        kept=("host",),
    ),
    _form("user info only", f"Invalid netloc: 'u:{PASSWORD}@host:22'", PASSWORD, kept=("host:22",)),
]

_PROXIES = [
    _form(
        "HTTPS_PROXY", f"HTTPS_PROXY=http://u:{PASSWORD}@proxy:3128", PASSWORD, kept=("proxy:3128",)
    ),
    _form(
        "ALL_PROXY", f"ALL_PROXY=socks5h://u:{PASSWORD}@proxy:1080", PASSWORD, kept=("proxy:1080",)
    ),
    _form(
        "without a scheme", f"http_proxy=u:{PASSWORD}@proxy:3128", PASSWORD, kept=("proxy:3128",)
    ),
    _form(
        "botocore",
        f'Failed to connect to proxy URL: "http://u:{PASSWORD}@proxy:3128/"',
        PASSWORD,
        kept=("Failed to connect to proxy URL", "proxy:3128"),
    ),
    _form("aiohttp", f"URL('http://u:{PASSWORD}@proxy:3128')", PASSWORD, kept=("proxy:3128",)),
    _form(
        "dict of proxies", f"{{'https': 'http://u:{PASSWORD}@proxy'}}", PASSWORD, kept=("https",)
    ),
    _form(
        "proxy_password",
        f"proxy_user=u proxy_password={PASSWORD}",
        PASSWORD,
        kept=("proxy_user=u",),
    ),
]

_AZURE_QUERY = "sv=2022-11-02&se=2030-01-01T00%3A00%3A00Z&sr=b&sp=r"
_AZURE = [
    _form(
        "SAS in a URL",
        f"https://a.blob.core.windows.net/c/b?{_AZURE_QUERY}&sig={SIG}",
        SIG,
        kept=("a.blob.core.windows.net/c/b", "se=2030-01-01"),
    ),
    _form("SAS that begins with sig", f"?sig={SIG}&{_AZURE_QUERY}", SIG, kept=("sr=b",)),
    _form("SAS in HTML", f"/c/b?sr=b&amp;sig={SIG}&amp;sp=r", SIG),
    _form("SAS in escaped JSON", rf'{{"url": "/c/b?sr=b\u0026sig={SIG}\u0026sp=r"}}', SIG),
    _form("SAS encoded again", quote(f"/c/b?sr=b&sig={SIG}&sp=r"), quote(SIG)),
    _form("SAS that is not encoded", "/c/b?sr=b&sig=Sk5u/J+example=&sp=r", "Sk5u/J+example="),
    _form("sas_token", f"sas_token='?{_AZURE_QUERY}&sig={SIG}'", SIG),
    _form(
        "SAS in a connection string",
        f"BlobEndpoint=https://a.blob.core.windows.net;SharedAccessSignature={_AZURE_QUERY}&sig={SIG};X=1",
        SIG,
        kept=("a.blob.core.windows.net",),
    ),
    _form(
        "connection string",
        f"AccountName=a;AccountKey={BASE64};EndpointSuffix=core.windows.net",
        BASE64[:20],
        BASE64[-20:],
        kept=("AccountName=a", "core.windows.net"),
    ),
    _form("account_key", f"AzureBlobFileSystem(account_name='a', account_key='{BASE64}')", BASE64),
    _form("SharedKey", f"Authorization: SharedKey acct:{BASE64}", BASE64),
    _form(
        "AccessToken",
        f"AccessToken(token='{JWT}', expires_on=1700000000)",
        JWT,
        kept=("1700000000",),
    ),
    _form(
        "client_secret",
        f"{{'tenant_id': 't-1', 'client_secret': '{PASSWORD}'}}",
        PASSWORD,
        kept=("t-1",),
    ),
    _form(
        "adlfs",
        f"ValueError: unable to connect to account for Connection string: AccountKey={BASE64}",
        BASE64[:20],
        BASE64[-20:],
        kept=("unable to connect to account",),
    ),
]

_AWS = [
    _form(
        "presigned",
        f"https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY_ID}%2F20240101"
        f"%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20240101T000000Z&X-Amz-Expires=3600"
        f"&X-Amz-Security-Token={quote(SESSION, safe='')}&X-Amz-Signature={HEX}",
        KEY_ID,
        quote(SESSION, safe=""),
        HEX,
        kept=("b.s3.amazonaws.com/k", "X-Amz-Date=20240101T000000Z"),
    ),
    _form("presigned, version 2", f"/k?AWSAccessKeyId={KEY_ID}&Signature={SIG}&Expires=17", SIG),
    _form("security token, header", f"x-amz-security-token: {SESSION}", SESSION),
    _form("security token, dict", f"{{'X-Amz-Security-Token': '{SESSION}'}}", SESSION),
    _form(
        "signed header",
        f"Authorization: AWS4-HMAC-SHA256 Credential={KEY_ID}/20240101/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={HEX}",
        KEY_ID,
        HEX,
    ),
    _form(
        "signed header without its name",
        f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20240101/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host, Signature={HEX}",
        KEY_ID,
        HEX,
    ),
    _form(
        "ini",
        f"[default]\naws_secret_access_key = {SECRET}\nregion = x",
        SECRET,
        kept=("region = x",),
    ),
    _form(
        "environment",
        f"AWS_SECRET_ACCESS_KEY={SECRET} AWS_REGION=x",
        SECRET,
        kept=("AWS_REGION=x",),
    ),
    _form("environment, quoted", f'export AWS_SESSION_TOKEN="{SESSION}"', SESSION),
    _form("os.environ", f"environ({{'AWS_SECRET_ACCESS_KEY': '{SECRET}', 'HOME': '/r'}})", SECRET),
    _form("dict", f"{{'key': '{KEY_ID}', 'secret': '{SECRET}'}}", SECRET),
    _form(
        "metadata service",
        json.dumps({"Code": "Success", "SecretAccessKey": SECRET, "Token": SESSION}),
        SECRET,
        SESSION,
        kept=("Success",),
    ),
    _form(
        "STS",
        f"<SecretAccessKey>{SECRET}</SecretAccessKey>\n<SessionToken>\n  {SESSION}</SessionToken>"
        "<Expiration>",
        SECRET,
        SESSION,
        kept=("<Expiration>",),
    ),
    _form(
        "keyword arguments",
        f"S3FileSystem(key='{KEY_ID}', secret='{SECRET}', token='{SESSION}', anon=False)",
        SECRET,
        SESSION,
        kept=("anon=False",),
    ),
    _form(
        "credentials",
        f"Credentials(access_key='x', secret_key='{SECRET}', token='{SESSION}')",
        SECRET,
    ),
    _form("client_kwargs", f"client_kwargs={{'aws_secret_access_key': '{SECRET}'}}", SECRET),
    _form(
        "Rust",
        f'AmazonS3Config {{ secret_access_key: Some("{SECRET}"), token: Some("{SESSION}") }}',
        SECRET,
    ),
    _form("customer key", f"x-amz-server-side-encryption-customer-key: {BASE64}", BASE64),
    _form(
        "command line",
        f"aws configure --secret-access-key {SECRET} --region x",
        SECRET,
        kept=("--region x",),
    ),
]

_HEADERS = [
    _form("Bearer", f"Authorization: Bearer {JWT}", JWT),
    _form("Basic", "Authorization: Basic dXNlcjpodW50ZXIy", "dXNlcjpodW50ZXIy"),
    _form("lower case", f"authorization: bearer {JWT}\r\nhost: h", JWT, kept=("host: h",)),
    _form("Proxy-Authorization", "Proxy-Authorization: Basic dXNlcjpodW50ZXIy", "dXNlcjpodW50ZXIy"),
    _form(
        "dict of headers",
        f"{{'Authorization': 'Bearer {JWT}', 'Host': 'h'}}",
        JWT,
        kept=("'Host': 'h'",),
    ),
    _form(
        "list of headers",
        f"[(b'Authorization', b'Bearer {JWT}'), (b'Host', b'h')]",
        JWT,
        kept=("Host",),
    ),
    _form("CIMultiDict", f"<CIMultiDict('Authorization': 'Bearer {JWT}', 'Host': 'h')>", JWT),
    _form(
        "curl", f"curl -H 'Authorization: Bearer {JWT}' https://host/", JWT, kept=("https://host/",)
    ),
    _form("X-Auth-Token", f"X-Auth-Token: {SESSION}", SESSION),
    _form("X-Api-Key", f"x-api-key: {SESSION}", SESSION),
    _form("Cookie", f"Cookie: session={PASSWORD}; path=/", PASSWORD),
    _form("Set-Cookie", f"'Set-Cookie': 'sid={PASSWORD}; HttpOnly'", PASSWORD),
    _form("bearer of Google, alone", f"token {GOOGLE} was refused", GOOGLE, kept=("was refused",)),
    _form("JWT, alone", f"cannot decode {JWT} here", JWT, kept=("cannot decode", "here")),
]

_GOOGLE_FILE = {
    "type": "service_account",
    "private_key": pem("PRIVATE KEY"),
    "client_email": "x@y.z",
}
_GOOGLE = [
    _form(
        "service account, JSON", json.dumps(_GOOGLE_FILE), BODY, kept=("service_account", "x@y.z")
    ),
    _form(
        "service account, repr",
        repr(_GOOGLE_FILE),
        BODY,
        "SecondLine",
        kept=("service_account", "x@y.z"),
    ),
    _form("service account, indented", json.dumps(_GOOGLE_FILE, indent=2), BODY, kept=("x@y.z",)),
    _form(
        "service account, dumped twice", json.dumps(json.dumps(_GOOGLE_FILE)), BODY, kept=("x@y.z",)
    ),
    _form(
        "OAuth",
        json.dumps(
            {"refresh_token": REFRESH, "client_secret": "GOCSPX-example", "access_token": GOOGLE}
        ),
        REFRESH,
        "GOCSPX-example",
        GOOGLE,
    ),
    _form(
        "OAuth request",
        f"grant_type=refresh_token&refresh_token={quote(REFRESH, safe='')}&client_secret=GOCSPX-x"
        "&client_id=c",
        quote(REFRESH, safe=""),
        "GOCSPX-x",
        kept=("grant_type=refresh_token", "client_id=c"),
    ),
    _form("assertion", f"grant_type=jwt-bearer&assertion={JWT}", JWT),
    _form("id_token", f"id_token={JWT}", JWT),
    _form(
        "signed URL",
        f"https://h/k?X-Goog-Date=2024&X-Goog-Signature={HEX}",
        HEX,
        kept=("X-Goog-Date=2024",),
    ),
    _form(
        "gcsfs",
        f"GCSFileSystem(project='p', token={{'refresh_token': '{REFRESH}'}})",
        REFRESH,
        kept=("'p'",),
    ),
]

_PEM = [
    _form("PKCS 8", pem("PRIVATE KEY"), BODY, "SecondLine"),
    _form(
        "RSA",
        f"key is\n{pem('RSA PRIVATE KEY')}\nand so on",
        BODY,
        "SecondLine",
        kept=("and so on",),
    ),
    _form("OpenSSH", pem("OPENSSH PRIVATE KEY", "\r\n"), BODY, "SecondLine"),
    _form("encrypted", pem("ENCRYPTED PRIVATE KEY"), BODY, "SecondLine"),
    _form("PGP", pem("PGP PRIVATE KEY BLOCK"), BODY, "SecondLine"),
    _form("PEM in bytes", repr(pem("EC PRIVATE KEY").encode()), BODY, "SecondLine"),
    _form("PEM, truncated", pem("PRIVATE KEY")[:70], BODY),
    _form("PEM in a URL", quote(pem("PRIVATE KEY")), BODY, "SecondLine"),
]

_PASSWORDS = [
    _form(
        "assignment",
        f"login failed for u, password={PASSWORD}",
        PASSWORD,
        kept=("login failed for u",),
    ),
    _form("YAML", f"user: u\npassword: {PASSWORD}\nhost: h", PASSWORD, kept=("user: u", "host: h")),
    _form(
        "spaces in quotes",
        "password = 'one two three', port=22",
        "one",
        "two",
        "three",
        kept=("port=22",),
    ),
    _form(
        "escaped quote", r'{"password": "one\"two", "port": 22}', "one", "two", kept=('"port": 22',)
    ),
    _form("on the next line", f'"password":\n    "{PASSWORD}"', PASSWORD),
    _form("bytes", f"{{b'password': b'{PASSWORD}', b'port': 22}}", PASSWORD, kept=("22",)),
    _form(
        "JSON in JSON",
        json.dumps(json.dumps({"password": PASSWORD, "port": 22})),
        PASSWORD,
        kept=("22",),
    ),
    _form("repr of a repr", repr(repr({"password": "it's", "secret": PASSWORD})), PASSWORD, "it"),
    _form("pair", f"('password', '{PASSWORD}')", PASSWORD),
    _form(
        "query",
        f"https://host/login?user=u&password={PASSWORD}&x=1",
        PASSWORD,
        kept=("user=u", "x=1"),
    ),
    _form(
        "query, encoded", f"user%3Du%26password%3D{PASSWORD}%26x%3D1", PASSWORD, kept=("user%3Du",)
    ),
    _form("option", f"--password {PASSWORD} --port 22", PASSWORD, kept=("--port 22",)),
    _form("option with =", f"--password={PASSWORD} --port 22", PASSWORD, kept=("--port 22",)),
    _form("passphrase", f"RSAKey.from_private_key(f, passphrase='{PASSWORD}')", PASSWORD),
    _form("passwd", f"ftplib.FTP(host='h', passwd='{PASSWORD}')", PASSWORD, kept=("'h'",)),
    _form(
        "paramiko",
        f"connect('h', username='u', password='{PASSWORD}', pkey=None)",
        PASSWORD,
        kept=("pkey=None",),
    ),
    _form(
        "camel case", f"{{secretAccessKey: '{SECRET}', sessionToken: '{SESSION}'}}", SECRET, SESSION
    ),
    _form("kebab case", f"secret-access-key: {SECRET}", SECRET),
    _form(
        "Backblaze",
        f"{{'application_key_id': '005', 'application_key': '{SECRET}'}}",
        SECRET,
        kept=("005",),
    ),
    _form(
        "storage_options",
        f"storage_options={{'username': 'u', 'password': '{PASSWORD}'}}",
        PASSWORD,
        kept=("'u'",),
    ),
    _form("nested options", f"{{'ssh': {{'auth': {{'secret': '{PASSWORD}'}}}}}}", PASSWORD),
    _form("SecretStr", f"Config(password=SecretStr('{PASSWORD}'))", PASSWORD),
    _form("non-ASCII", "password=pässwörd1", "pässwörd1"),
]

SECRET_FORMS = [*_USER_INFO, *_PROXIES, *_AZURE, *_AWS, *_HEADERS, *_GOOGLE, *_PEM, *_PASSWORDS]

KNOWN = "Tr0ub4dor&3 '<ü>\n/+=: zebra-batteries"
"""A value that was remembered: every character that an encoding changes is in it."""


def _base64_forms() -> dict[str, str]:
    raw = KNOWN.encode()
    return {
        "base64": base64.b64encode(raw).decode(),
        "base64 for URLs": base64.urlsafe_b64encode(raw).decode(),
        "base64 without padding": base64.b64encode(raw).decode().rstrip("="),
        "Basic of a user": f"Basic {base64.b64encode(b'u:' + raw).decode()}",
        "Basic of a longer user": base64.b64encode(b"ray:" + raw).decode(),
        "base64 within more": base64.b64encode(b"user=" + raw + b";port=22").decode(),
        "base64, percent-encoded": quote(base64.b64encode(raw), safe=""),
    }


ENCODED_FORMS = {
    "plain": KNOWN,
    "repr": repr(KNOWN),
    "repr of bytes": repr(KNOWN.encode()),
    "ascii": ascii(KNOWN),
    "repr of a dict": repr({"x": KNOWN}),
    "repr of a repr": repr(repr(KNOWN)),
    "JSON": json.dumps(KNOWN),
    "JSON without escapes": json.dumps(KNOWN, ensure_ascii=False),
    "JSON in JSON": json.dumps(json.dumps(KNOWN)),
    "percent-encoded": quote(KNOWN, safe=""),
    "percent-encoded path": quote(KNOWN),
    "percent-encoded, lower case": quote(KNOWN, safe="")
    .replace("%2F", "%2f")
    .replace("%3A", "%3a"),
    "percent-encoded twice": quote(quote(KNOWN, safe=""), safe=""),
    "form": quote(KNOWN, safe=" ").replace(" ", "+"),
    "XML": KNOWN.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
    "HTML": KNOWN.replace("&", "&amp;")
    .replace("<", "&lt;")
    .replace(">", "&gt;")
    .replace("'", "&#x27;"),
    "shell": "'" + KNOWN.replace("'", "'\"'\"'") + "'",
    "one line of it": f"found {KNOWN.splitlines()[1]!r}",
    "indented": KNOWN.replace("\n", "\n    "),
    "hexadecimal": KNOWN.encode().hex(),
    **_base64_forms(),
}
"""Texts with `KNOWN` in them, by the encoding."""

HARMLESS_FORMS = [
    "s3://bucket/prefix/session_2024-01-01_10-00-00_123456_789/ray_spilled_objects_ab12/file-001",
    "s3://b/date=2024-01-01T10:00/u@h",
    "s3://b/key=value/part=1/x.parquet",
    "gs://b/me@example.com/dir/file",
    "abfs://container@account.dfs.core.windows.net/dir",
    "sftp://ray@host:22/dir/me@work",
    "http://127.0.0.1:9000/bucket/u@h",
    "http://[::1]:9000/bucket/u@h",
    "http://host:9000?x=u@h",
    "file:///tmp/a:b@c/d",
    "file://C:/Users/u@h/spill",
    "memory://spill/10:30@noon",
    "s3://arn:aws:s3:us-west-2:123456789012:accesspoint/test/u@h",
    "simplecache::s3://bucket/a@b",
    "s3://a/x, s3://b:y and c@d",
    "s3://b/f?offset=0&size=24&xxh3=0123456789abcdef0123456789abcdef",
    "at 10:00:01 user@host was told",
    "mail to admin@example.com: disk full",
    "An error occurred (SignatureDoesNotMatch) when calling the PutObject operation",
    "An error occurred (ExpiredToken): The provided token has expired.",
    "invalid_grant: Token has been expired or revoked.",
    "password authentication failed for user ray",
    "the secret of a good night: sleep",
    "Basic authentication is required",
    "Basic knowledge helps; bearer tokens do too",
    "Parameters: {'Bucket': 'b', 'Key': 'dir/file-001'}",
    "NoSuchKey: the key 'dir/file-001' does not exist",
    'ETag: "d41d8cd98f00b204e9800998ecf8427e"',
    "X-Amz-Request-Id: 656c76696e6727732072657175657374",
    "AWS_WEB_IDENTITY_TOKEN_FILE=/var/run/secrets/eks/serviceaccount/file",
    "GOOGLE_APPLICATION_CREDENTIALS=/etc/gcp.json",
    "token='google_default'",
    "password=None, secret='', token=None",
    "monkey=banana keyboard: qwerty design=blue&assign=3",
    "max_tokens=512, tokenizer='bert'",
    "pip install fsspill[s3]",
    "ObjectRef(00ffffffffffffffffffffffffffffffffffffff0100000001000000)",
    "session 3f2504e0-4f89-11d3-9a0c-0305e82c3301 on node 28dbc0a1f2",
    "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIE\n-----END CERTIFICATE-----",
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB ray@host",
    "HTTPS_PROXY=http://proxy:3128 NO_PROXY=localhost",
    "Set the environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "cannot write s3://b/f: expected HTTP 200, found 503. Retried for 30 s.",
    "spilled 12 files (3.5 MiB) to s3://a/x:3, 4 at 10@sec",
]
"""Texts without a secret, which must stay as they are."""
