"""A CA for a test, with a server's and a client's certificate."""

import dataclasses
import pathlib
import subprocess


@dataclasses.dataclass
class Certificate:
    """The files for a TLS listener of mosquitto, like those of an Authority."""
    certificate: pathlib.Path
    key: pathlib.Path

    @property
    def text(self):
        return self.certificate.read_text()

    @property
    def key_text(self):
        return self.key.read_text()

    ca = property(lambda self: self.certificate)
    server_certificate = property(lambda self: self.certificate)
    server_key = property(lambda self: self.key)


class Authority:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ca, self.ca_key = folder / "ca.pem", folder / "ca.key"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                      "-nodes", "-keyout", self.ca_key, "-out", self.ca, "-days", "2",
                      "-subj", "/CN=test authority",
                      "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self.server_certificate, self.server_key = self.issue(
            "server", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.client_certificate, self.client_key = self.issue(
            "client", "extendedKeyUsage=clientAuth")

    def issue(self, name, extension):
        key, request, certificate, extensions = (
            self.folder / f"{name}.{suffix}" for suffix in ("key", "csr", "pem", "ext"))
        extensions.write_text(extension + "\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key,
                      "-CAcreateserial", "-days", "2", "-extfile", extensions,
                      "-out", certificate)
        return certificate, key

    def chain(self, name, extension="", *, subject=None, issuer=None, key=("ec",), digest="sha256",
              expired=False, encrypted=None):
        """A certificate of any kind, with its key and issuer; issuer None: self-signed."""
        paths = Certificate(*(self.folder / f"{name}.{suffix}" for suffix in ("pem", "key")))
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(extension + "\n")
        kind = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256") if key == ("ec",) else key
        self._openssl("req", "-newkey", *kind, "-nodes", "-keyout", paths.key, "-out", request,
                      "-subj", subject or f"/CN={name}")
        signer = ("-signkey", paths.key) if issuer is None else (
            "-CA", issuer.certificate, "-CAkey", issuer.key, "-CAcreateserial")
        # OpenSSL 3.5 does not sign expired certificates; 3.0 accepts only a number of days.
        self._openssl("x509", "-req", "-in", request, *signer, "-days", 2, f"-{digest}",
                      "-extfile", extensions, "-out", paths.certificate,
                      before=("faketime", "-f", "-4d") if expired else ())
        if encrypted:
            plain = paths.key.rename(paths.key.with_suffix(".plain"))
            self._openssl("pkey", "-in", plain, "-aes256", "-passout", f"pass:{encrypted}",
                          "-out", paths.key)
        return paths

    @staticmethod
    def _openssl(*words, before=()):
        subprocess.run([*before, "openssl", *map(str, words)], check=True, capture_output=True)
