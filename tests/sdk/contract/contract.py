"""Asks an engine with something in it for everything it tells, in each API version, and holds the replies against that
version's specification. One test for each version and operation."""

import http.client
import json
import os
import socket
import sys
import time
import urllib.parse

from schema import Specification

# The version asked, and the one whose document judges: 1.24 has none, and those before 1.40 say of several members what
# they never were.
VERSIONS = {"1.24": "1.40", **{one: one for one in ("1.40", "1.44", "1.47", "1.51", "1.52", "1.53", "1.55")}}
NEWEST = "1.55"

# Members that come and go: target, place, first version that has them, first that has them no more.
COMING_AND_GOING = [
    ("/containers/running/json", "NetworkSettings.IPAddress", 24, 52),
    ("/containers/running/json", "NetworkSettings.Gateway", 24, 52),
    ("/containers/running/json", "NetworkSettings.MacAddress", 24, 52),
    ("/containers/running/json", "NetworkSettings.Networks.bridge.DNSNames", 44, 99),
    ("/containers/running/json", "GraphDriver", 24, 52),
    ("/containers/running/json", "Storage", 52, 99),
    ("/images/alpine:latest/json", "VirtualSize", 24, 44),
    ("/images/alpine:latest/json", "Container", 24, 45),
    ("/images/alpine:latest/json", "GraphDriver", 24, 52),
    ("/system/df", "LayersSize", 25, 53),
    ("/system/df", "ImageUsage", 52, 99),
    ("/info", "DiscoveredDevices", 50, 99),
    ("/info", "BridgeNfIptables", 24, 50),
    ("/containers/running/stats?stream=0", "os_type", 52, 99),
]
IMAGE = "alpine:latest"


class Connection(http.client.HTTPConnection):
    """HTTP over the engine's unix socket."""

    def __init__(self):
        super().__init__("localhost", timeout=30)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(os.environ["HOIST_SDK_SOCKET"])


def ask(method, target, body=None, version=NEWEST):
    """The status and the body of a reply, as JSON if it is."""
    connection = Connection()
    headers = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(method, f"/v{version}{target}", json.dumps(body) if body is not None else None, headers)
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    try:
        return reply.status, json.loads(text)
    except ValueError:
        # A stream of objects, each in its line.
        return reply.status, [json.loads(line) for line in text.splitlines()]


def must(status, method, target, body=None, version=NEWEST):
    seen, value = ask(method, target, body, version)
    assert seen == status, f"{method} {target}: {seen} {value}"
    return value


def filled():
    """Makes what the replies are about: images, a volume, containers in several states, an exec, events."""
    must(200, "POST", "/images/create?fromImage=alpine&tag=latest")
    must(201, "POST", "/volumes/create", {"Name": "contract", "Labels": {"a": "b"}})
    body = {
        "Image": IMAGE, "Cmd": ["sleep", "120"], "Env": ["A=1"], "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}}, "StopTimeout": 1,
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9, "Timeout": 10**9, "Retries": 3},
        "HostConfig": {
            "Binds": ["contract:/data", "/tmp:/host:ro"], "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
            "Memory": 64 << 20, "NanoCpus": 5 * 10**8, "PidsLimit": 50, "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}], "CapAdd": ["NET_ADMIN"],
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}, "Tmpfs": {"/scratch": ""}, "Mounts": [{"Type": "tmpfs", "Target": "/mem"}],
            "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nil", "CgroupPermissions": "rwm"}], "LogConfig": {"Type": "json-file", "Config": {}},
        },
    }
    running = must(201, "POST", "/containers/create?name=running", body)["Id"]
    must(204, "POST", f"/containers/{running}/start")
    resting = must(201, "POST", "/containers/create?name=resting", {"Image": IMAGE, "Cmd": ["sh", "-c", "echo >/new; exit 3"]})["Id"]
    must(204, "POST", f"/containers/{resting}/start")
    must(200, "POST", f"/containers/{resting}/wait")
    must(201, "POST", "/containers/create?name=created", {"Image": IMAGE})
    execution = must(201, "POST", f"/containers/{running}/exec", {"Cmd": ["true"], "AttachStdout": True})["Id"]
    must(200, "POST", f"/exec/{execution}/start", {"Detach": True})
    return execution


def questions(execution):
    """Method, path of the specification, target, expected status, body."""
    everything = urllib.parse.quote(json.dumps({"type": ["container"]}))
    now = int(time.time()) + 1
    yield "GET", "/version", "/version", 200, None
    yield "GET", "/info", "/info", 200, None
    yield "GET", "/containers/json", "/containers/json?all=1&size=1", 200, None
    for name in ("running", "resting", "created"):
        yield "GET", "/containers/{id}/json", f"/containers/{name}/json?size=1", 200, None
    yield "GET", "/containers/{id}/top", "/containers/running/top", 200, None
    yield "GET", "/containers/{id}/changes", "/containers/resting/changes", 200, None
    yield "GET", "/containers/{id}/changes", "/containers/created/changes", 200, None
    yield "GET", "/containers/{id}/stats", "/containers/running/stats?stream=0", 200, None
    yield "GET", "/containers/{id}/stats", "/containers/resting/stats?stream=0", 200, None
    yield "POST", "/containers/{id}/update", "/containers/running/update", 200, {"CpuShares": 512}
    yield "POST", "/containers/{id}/wait", "/containers/resting/wait", 200, None
    yield "GET", "/exec/{id}/json", f"/exec/{execution}/json", 200, None
    yield "GET", "/images/json", "/images/json?all=1", 200, None
    yield "GET", "/images/{name}/json", f"/images/{IMAGE}/json", 200, None
    yield "GET", "/images/{name}/history", f"/images/{IMAGE}/history", 200, None
    yield "GET", "/volumes", "/volumes", 200, None
    yield "GET", "/volumes/{name}", "/volumes/contract", 200, None
    yield "GET", "/networks", "/networks", 200, None
    for name in ("bridge", "host", "none"):
        yield "GET", "/networks/{id}", f"/networks/{name}?verbose=1", 200, None
    yield "GET", "/system/df", "/system/df", 200, None
    yield "GET", "/events", f"/events?since=0&until={now}&filters={everything}", 200, None
    yield "GET", "/containers/{id}/json", "/containers/nobody/json", 404, None
    yield "POST", "/containers/create", "/containers/create?name=not%20good", 400, {"Image": IMAGE}
    yield "POST", "/containers/create", "/containers/create?name=running", 409, {"Image": IMAGE}
    yield "DELETE", "/containers/{id}", "/containers/running", 409, None
    yield "GET", "/images/{name}/json", "/images/nobody/json", 404, None
    yield "GET", "/volumes/{name}", "/volumes/nobody", 404, None
    yield "POST", "/containers/prune", "/containers/prune?filters=%7B%22label%22%3A%5B%22nobody%22%5D%7D", 200, None
    yield "POST", "/images/prune", "/images/prune", 200, None
    yield "POST", "/volumes/prune", "/volumes/prune", 200, None
    yield "POST", "/networks/prune", "/networks/prune", 200, None
    yield "POST", "/build/prune", "/build/prune", 200, None


def judge(specification, version, question):
    method, path, target, status, body = question
    schema = specification.reply(method, path, status) if path in specification.document["paths"] else None
    if path not in specification.document["paths"]:
        return None
    value = must(status, method, target, body, version)
    if schema is None:
        return []
    # Newer members in older replies are Docker's own habit; in the newest there is none that the specification lacks.
    strict = version == NEWEST
    if path != "/events":
        return specification.complaints(value, schema, strict)
    assert len(value) > 5, f"events: {value}"
    return [complaint for event in value for complaint in specification.complaints(event, schema, strict)]


def present(value, place):
    for name in place.split("."):
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True


def shaping(version):
    """What of COMING_AND_GOING a version gets wrong."""
    minor = int(version.split(".")[1])
    for target, place, first, gone in COMING_AND_GOING:
        if target == "/system/df" and minor < 25:
            continue
        if present(must(200, "GET", target, None, version), place) != (first <= minor < gone):
            yield f"{target} {place}: {'missing' if first <= minor < gone else 'there'}"


def tell(name, complaints):
    for complaint in complaints:
        print(f"{name}: {complaint}")
    print(f"test {name} ... {'FAILED' if complaints else 'ok'}", flush=True)


def main():
    execution = filled()
    for version, judging in VERSIONS.items():
        specification = Specification(os.path.join(sys.argv[1], f"v{judging}.yaml"))
        for question in questions(execution):
            name = f"{version}_{question[0]}_{question[2].split('?')[0].replace(execution, 'id')}_{question[3]}"
            try:
                complaints = judge(specification, version, question)
            except AssertionError as error:
                complaints = [str(error)]
            if complaints is not None:
                tell(name, complaints)
        tell(f"{version}_members_that_come_and_go", list(shaping(version)))


main()
