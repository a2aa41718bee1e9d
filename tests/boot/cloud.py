"""A cloud as an instance knows it: its metadata service, which signs what it says.

There is none that could be installed; this one asks for what the clouds' own demand of whoever asks.
"""

import base64
import datetime
import http.server
import json
import threading
import time
import urllib.parse

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

REGION = "hearth-west-1"
TOKEN = "a-token=="


class Cloud:
    """AWS's service and GCP's, for one instance in `account`."""

    def __init__(self, account):
        self.account = account
        self.key = rsa.generate_private_key(65537, 2048)
        now = datetime.datetime.now(datetime.UTC)
        name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Hearth Web Services LLC")])
        builder = x509.CertificateBuilder(name, name, self.key.public_key(), 1, now, now + datetime.timedelta(days=1))
        self.certificate = builder.sign(self.key, hashes.SHA256())
        cloud = self

        class Service(http.server.BaseHTTPRequestHandler):
            def do_PUT(self):
                asked = self.path == "/latest/api/token" and "x-aws-ec2-metadata-token-ttl-seconds" in self.headers
                self.say(TOKEN.encode() if asked else None)

            def do_GET(self):
                url = urllib.parse.urlparse(self.path)
                if url.path == "/latest/dynamic/instance-identity/rsa2048":
                    allowed = self.headers["x-aws-ec2-metadata-token"] == TOKEN
                    self.say(cloud.aws() if allowed else None)
                elif url.path.startswith("/computeMetadata/v1/instance/service-accounts/default/identity"):
                    allowed = self.headers["metadata-flavor"] == "Google"
                    audience = urllib.parse.parse_qs(url.query)["audience"][0]
                    self.say(cloud.gcp(audience) if allowed else None)
                else:
                    self.say(None)

            def say(self, body):
                self.send_response(200 if body else 403)
                self.send_header("content-length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_):
                pass

        self.service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
        self.port = self.service.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.service.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.service.shutdown()
        self.service.server_close()

    def believed_by(self, server):
        """Puts its certificate where the server believes it, while the server runs."""
        for path in (server.folder / f"clouds/aws/{REGION}.pem", server.folder / "clouds/gcp/certificates.pem"):
            path.parent.mkdir(exist_ok=True)
            new = path.with_name(".new")
            new.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
            new.rename(path)

    def aws(self):
        """The identity document of the instance: CMS, in base64."""
        document = {
            "accountId": self.account,
            "availabilityZone": f"{REGION}a",
            "instanceId": "i-078517ca8a70a1dde",
            "region": REGION,
        }
        builder = pkcs7.PKCS7SignatureBuilder().set_data(json.dumps(document).encode())
        builder = builder.add_signer(self.certificate, self.key, hashes.SHA256())
        options = [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoCerts]
        return base64.encodebytes(builder.sign(serialization.Encoding.DER, options))

    def gcp(self, audience):
        """The identity token of the instance."""
        instance = {"project_id": self.account, "zone": f"{REGION}-a", "instance_id": "152986662232938449"}
        token = {
            "iss": "https://accounts.google.com",
            "aud": audience,
            "iat": int(time.time()),
            "exp": int(time.time()) + 3600,
            "google": {"compute_engine": instance},
        }
        parts = [base64.urlsafe_b64encode(json.dumps(part).encode()) for part in ({"alg": "RS256"}, token)]
        message = b".".join(part.rstrip(b"=") for part in parts)
        signature = self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return message + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")
