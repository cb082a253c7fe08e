"""What others say to signatures that oauth3 made: second_opinion.py < JSON.

Reads {"aws": [{"key", "session"?, "method", "url", "headers", "body"}], "jwt": [{"token", "key", "algorithm"}],
"hmac": [{"key", "text", "encoding"}]}; bodies and texts are lists of bytes. Writes the same with what botocore signs,
what PyJWT reads, and what Python's hmac makes: {"aws": [signature], "jwt": [claims], "hmac": [text]}."""
import base64, hashlib, hmac, json, sys
from urllib.parse import parse_qs, urlsplit

import jwt
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


def aws(one):
    key_id, secret = one["key"].split(":")[:2]
    headers, url = one["headers"], one["url"]
    query = parse_qs(urlsplit(url).query, encoding="latin-1")
    presigned = "X-Amz-Credential" in query
    if presigned:
        credential, names, date = (query[f"X-Amz-{n}"][0] for n in ("Credential", "SignedHeaders", "Date"))
        # The signature is over all of the address but itself.
        url = "&".join(part for part in url.split("&") if not part.startswith("X-Amz-Signature="))
    else:
        parts = dict(part.strip().split("=", 1) for part in headers["authorization"].split(" ", 1)[1].split(","))
        credential, names, date = parts["Credential"], parts["SignedHeaders"], headers["x-amz-date"]
    _, _, region, service, _ = credential.split("/")
    assert credential.startswith(key_id + "/"), credential
    kind = {(False, False): SigV4Auth, (False, True): S3SigV4Auth, (True, False): SigV4QueryAuth, (True, True): S3SigV4QueryAuth}
    auth = kind[presigned, service == "s3"](Credentials(key_id, secret, one.get("session")), service, region)
    signed = {name: headers[name] for name in names.split(";")}
    request = AWSRequest(one["method"], url, signed, bytes(one["body"]))
    request.context["timestamp"] = date
    return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)


def read(one):
    return jwt.decode(one["token"], one["key"], algorithms=[one["algorithm"]], options={"require": ["exp", "iat"]})


def tag(one):
    made = hmac.new(one["key"].encode(), bytes(one["text"]), hashlib.sha256).digest()
    return made.hex() if one["encoding"] == "hex" else base64.b64encode(made).decode()


asked = json.load(sys.stdin)
given = {name: [judge(one) for one in asked[name]] for name, judge in (("aws", aws), ("jwt", read), ("hmac", tag))}
json.dump(given, sys.stdout)
