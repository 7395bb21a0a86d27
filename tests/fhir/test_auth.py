"""How we prove who we are: what goes on the wire, how often a token is asked for, and that no secret shows."""

import base64
import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import requests
import responses
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509.oid import NameOID

from bridge.errors import EhrRefused, EhrUnreachable
from bridge.fhir.auth import authorizer, client_context
from bridge.fhir.smart import jwk, kid, signing_key
from bridge.settings import Auth

BASE = "https://ehr.example/fhir"
TOKENS = "https://login.example/token"


def pem(key) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P384 = ec.generate_private_key(ec.SECP384R1())


class Clock:
    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


def grant(token="t1", **answer):
    return responses.post(TOKENS, json={"access_token": token, "token_type": "bearer", "expires_in": 300, **answer})


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        (Auth("none"), {}),
        (Auth("mtls"), {}),
        (Auth("bearer", token="s3"), {"Authorization": "Bearer s3"}),
        (
            Auth("basic", user="ü", password="p:w"),
            {"Authorization": "Basic " + base64.b64encode("ü:p:w".encode()).decode()},
        ),
        (Auth("header", header="X-Api-Key", token="s3"), {"X-Api-Key": "s3"}),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_fixed_headers(auth, headers):
    assert authorizer(auth, BASE).headers() == headers
    assert authorizer(auth, BASE).drop() is False
    assert "s3" not in repr(auth)


@responses.activate
def test_client_secret_goes_as_basic_and_the_token_is_kept_until_it_is_nearly_over():
    clock = Clock()
    grant("t1")
    grant("t2")
    auth = authorizer(
        Auth("client_secret", token_url=TOKENS, client_id="c", client_secret="s", scope="system/Appointment.rs"),
        BASE,
        clock=clock,
    )
    assert auth.headers() == auth.headers() == {"Authorization": "Bearer t1"}
    clock.now += 269
    assert auth.headers() == {"Authorization": "Bearer t1"}
    clock.now += 2
    assert auth.headers() == {"Authorization": "Bearer t2"}
    sent = responses.calls[0].request
    assert sent.headers["Authorization"] == "Basic " + base64.b64encode(b"c:s").decode()
    assert sent.body == "grant_type=client_credentials&scope=system%2FAppointment.rs"
    assert len(responses.calls) == 2


@responses.activate
def test_a_dropped_token_is_asked_for_again():
    grant("t1")
    grant("t2")
    auth = authorizer(Auth("client_secret", token_url=TOKENS, client_id="c", client_secret="s"), BASE)
    assert auth.headers()["Authorization"] == "Bearer t1"
    assert auth.drop() is True
    assert auth.headers()["Authorization"] == "Bearer t2"


@responses.activate
@pytest.mark.parametrize("lifetime", [5, "5", 0, None, "soon", True], ids=str)
def test_an_odd_lifetime_does_not_mean_a_token_request_per_call(lifetime):
    clock = Clock()
    grant(expires_in=lifetime)
    auth = authorizer(Auth("client_secret", token_url=TOKENS, client_id="c", client_secret="s"), BASE, clock=clock)
    for _ in range(3):
        auth.headers()
    assert len(responses.calls) == 1


def test_many_threads_ask_for_one_token():
    asked = []

    class Slow(requests.Session):
        def request(self, *args, **options):
            asked.append(1)
            time.sleep(0.05)
            answer = requests.Response()
            answer.status_code = 200
            answer._content = b'{"access_token":"t1","expires_in":300}'
            return answer

    auth = authorizer(Auth("client_secret", token_url=TOKENS, client_id="c", client_secret="s"), BASE, session=Slow)
    threads = [threading.Thread(target=auth.headers) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == [1]


def unpadded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@responses.activate
@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS384"), (P384, "ES384")], ids=["RS384", "ES384"])
def test_smart_backend_signs_a_fresh_short_assertion(key, algorithm):
    clock = Clock()
    responses.get(f"{BASE}/.well-known/smart-configuration", json={"token_endpoint": "https://ehr.example/token"})
    responses.post("https://ehr.example/token", json={"access_token": "t", "expires_in": 300})
    auth = authorizer(Auth("smart_backend", client_id="c", private_key=pem(key), key_id="k1"), BASE, clock=clock)
    ids = set()
    for _ in range(2):
        auth.headers()
        auth.drop()
        form = dict(pair.split("=") for pair in responses.calls[-1].request.body.split("&"))
        head, claims, signature = form["client_assertion"].split(".")
        assert json.loads(unpadded(head)) == {"alg": algorithm, "typ": "JWT", "kid": "k1"}
        said = json.loads(unpadded(claims))
        assert (said["iss"], said["sub"], said["aud"]) == ("c", "c", "https://ehr.example/token")
        assert 0 < said["exp"] - clock.now <= 300
        ids.add(said["jti"])
        signed = f"{head}.{claims}".encode()
        raw = unpadded(signature)
        if key is RSA:
            key.public_key().verify(raw, signed, padding.PKCS1v15(), hashes.SHA384())
        else:
            assert len(raw) == 96
            der = utils.encode_dss_signature(int.from_bytes(raw[:48], "big"), int.from_bytes(raw[48:], "big"))
            key.public_key().verify(der, signed, ec.ECDSA(hashes.SHA384()))
    assert len(ids) == 2


@responses.activate
def test_a_token_endpoint_on_a_host_the_config_does_not_name_is_not_asked():
    responses.get(f"{BASE}/.well-known/smart-configuration", json={"token_endpoint": "https://evil.example/token"})
    auth = authorizer(Auth("smart_backend", client_id="c", private_key=pem(P384)), BASE)
    with pytest.raises(EhrRefused, match="another host"):
        auth.headers()
    assert len(responses.calls) == 1


@responses.activate
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, '{"error":"invalid_client"}', EhrRefused),
        (400, '{"error":"invalid_scope"}', EhrRefused),
        (503, "busy", EhrUnreachable),
        (200, "<html>s3cret</html>", EhrUnreachable),
        (200, "{}", EhrUnreachable),
        (302, "", EhrUnreachable),
    ],
)
def test_a_token_endpoint_that_gives_none(status, body, error):
    responses.post(TOKENS, status=status, body=body, headers={"Location": "https://evil.example/"})
    auth = authorizer(Auth("client_secret", token_url=TOKENS, client_id="c", client_secret="s3cret"), BASE)
    with pytest.raises(error) as caught:
        auth.headers()
    assert "s3cret" not in str(caught.value)
    assert len(responses.calls) == 1


@responses.activate
def test_a_token_endpoint_that_is_not_there():
    responses.post(TOKENS, body=requests.ConnectionError("https://login.example/token?secret"))
    auth = authorizer(Auth("client_secret", token_url=TOKENS, client_id="c", client_secret="s"), BASE)
    with pytest.raises(EhrUnreachable) as caught:
        auth.headers()
    assert "secret" not in str(caught.value)
    assert not caught.value.unknown


@pytest.mark.parametrize(
    "text",
    [
        None,
        "nonsense",
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
    ],
    ids=["none", "nonsense", "P-256", "RSA-1024"],
)
def test_a_key_no_smart_server_must_take_is_refused_at_start(text):
    with pytest.raises(ValueError, match=r"auth\.private_key") as caught:
        authorizer(Auth("smart_backend", client_id="c", private_key=text), BASE)
    assert "BEGIN" not in str(caught.value)


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS384"), (P384, "ES384")], ids=["RS384", "ES384"])
def test_the_published_key_is_the_public_half_only(key, algorithm):
    published = jwk(signing_key(pem(key)), "k1")
    assert (published["alg"], published["kid"], published["use"]) == (algorithm, "k1", "sig")
    assert "d" not in published
    numbers = key.public_key().public_numbers()
    if key is RSA:
        assert int.from_bytes(unpadded(published["n"]), "big") == numbers.n
    else:
        assert int.from_bytes(unpadded(published["x"]), "big") == numbers.x
    assert jwk(key)["kid"] == kid(key)


def test_a_client_certificate_from_pem_texts():
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bridge")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(P384.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(P384, hashes.SHA384())
    )
    text = certificate.public_bytes(serialization.Encoding.PEM).decode()
    session = requests.Session()
    authorizer(Auth("mtls", certificate=text, private_key=pem(P384)), BASE).prepare(session)
    assert session.get_adapter(BASE).poolmanager.connection_pool_kw["ssl_context"] is not None
    with pytest.raises(ValueError, match=r"auth\.certificate"):
        client_context(text, pem(RSA))
