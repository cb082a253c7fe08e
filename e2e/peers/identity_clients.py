"""Sign-ins by clients that others wrote, at the stand-ins for their providers: identity_clients.py PORT CA PROVIDER.

Every name leads to the port on this machine, where the certificates of CA hold. Each sign-in is pending once, then
Ann's, then declined. Prints what the client found, as JSON."""
import json, os, socket, sys, time

port, ca, provider = int(sys.argv[1]), sys.argv[2], sys.argv[3]
os.environ.update(SSL_CERT_FILE=ca, REQUESTS_CA_BUNDLE=ca, AWS_EC2_METADATA_DISABLED="true")
socket.getaddrinfo = lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


def entra():
    import msal

    app = msal.PublicClientApplication(
        "6731de76-14a6-49ae-97bc-6eba6914391e",
        authority="https://login.microsoftonline.com/consumers",
        instance_discovery=False,
        verify=ca,
    )
    begun = app.initiate_device_flow(["Mail.Read"])
    first = app.acquire_token_by_device_flow(begun)
    [account] = app.get_accounts()
    second = app.acquire_token_silent_with_error(["Mail.Read"], account, force_refresh=True)
    denied = app.acquire_token_by_device_flow(app.initiate_device_flow(["Mail.Read"]))
    claims = first["id_token_claims"]
    return {
        "name": claims["name"],
        "renewed": second["access_token"] != first["access_token"] and second["token_source"] == "identity_provider",
        "account": account["username"],
        "denied": denied["error"],
    }


def google():
    import google.auth.transport.requests as transport
    import requests
    from google.auth.exceptions import RefreshError
    from google.oauth2 import id_token
    from google.oauth2.credentials import Credentials

    client = "407408718192.apps.googleusercontent.com", "GOCSPX-not-so-secret"
    http = requests.Session()
    scope = "openid email"

    def sign_in():
        data = {"client_id": client[0], "scope": scope}
        begun = http.post("https://oauth2.googleapis.com/device/code", data=data).json()
        while True:
            time.sleep(begun["interval"])
            data = dict(zip(("client_id", "client_secret"), client), grant_type=DEVICE, device_code=begun["device_code"])
            reply = http.post("https://oauth2.googleapis.com/token", data=data)
            if reply.status_code != 428:
                return reply.json()

    first = sign_in()
    request = transport.Request(http)
    keys = "https://www.googleapis.com/oauth2/v3/certs"
    claims = id_token.verify_token(first["id_token"], request, client[0], certs_url=keys)
    credentials = Credentials(
        None, first["refresh_token"], token_uri="https://oauth2.googleapis.com/token", client_id=client[0], client_secret=client[1]
    )
    credentials.refresh(request)
    renewed = credentials.token != first["access_token"] and credentials.refresh_token == first["refresh_token"]
    denied = sign_in()["error"]
    http.post("https://oauth2.googleapis.com/revoke", data={"token": first["refresh_token"]}).raise_for_status()
    try:
        credentials.refresh(request)
        ended = None
    except RefreshError as error:
        ended = error.args[1]["error"]
    return {"name": claims["name"], "account": claims["email"], "renewed": renewed, "denied": denied, "ended": ended}


def aws():
    import botocore.session
    from botocore.validate import ParamValidator

    session = botocore.session.Session()
    oidc, portal = (session.create_client(name, region_name="eu-central-1", verify=ca) for name in ("sso-oidc", "sso"))
    for client in (oidc, portal):
        # A reply that is not what the model of the API says is refused too.
        client.meta.events.register("after-call", whole(ParamValidator()))
    client = oidc.register_client(
        clientName="peer", clientType="public", scopes=["sso:account:access"], grantTypes=[DEVICE, "refresh_token"]
    )
    client = {name: client[name] for name in ("clientId", "clientSecret")}

    def sign_in():
        begun = oidc.start_device_authorization(**client, startUrl="https://example.awsapps.com/start")
        waits = (oidc.exceptions.AuthorizationPendingException,)
        while True:
            time.sleep(begun["interval"])
            try:
                return oidc.create_token(**client, grantType=DEVICE, deviceCode=begun["deviceCode"])
            except waits:
                pass

    first = sign_in()
    second = oidc.create_token(**client, grantType="refresh_token", refreshToken=first["refreshToken"])
    role = {"roleName": "ReadOnly", "accountId": "123456789012", "accessToken": second["accessToken"]}
    credentials = portal.get_role_credentials(**role)["roleCredentials"]
    try:
        sign_in()
        denied = None
    except oidc.exceptions.AccessDeniedException as error:
        denied = error.response["error"]
    portal.logout(accessToken=second["accessToken"])
    try:
        portal.get_role_credentials(**role)
        ended = None
    except portal.exceptions.UnauthorizedException as error:
        ended = error.response["Error"]["Code"]
    return {
        "renewed": second["accessToken"] != first["accessToken"],
        "lasts": credentials["expiration"] / 1000 > time.time(),
        "denied": denied,
        "ended": ended,
    }


def whole(validator):
    def check(http_response, parsed, model, **_):
        if http_response.status_code < 300 and model.output_shape:
            said = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
            report = validator.validate(said, model.output_shape)
            assert not report.has_errors(), report.generate_report()
            unknown = set(json.loads(http_response.content or "{}")) - set(model.output_shape.members)
            assert not unknown, unknown

    return check


print(json.dumps({"entra": entra, "google": google, "aws": aws}[provider]()))
