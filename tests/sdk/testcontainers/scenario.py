"""What programs do with testcontainers for Python."""

import os
import subprocess
import sys
import time
import traceback
import urllib.request

import docker
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy

SERVER = "testcontainers/helloworld:1.3.0"
LABEL = "org.testcontainers.session-id"
client = docker.from_env()

# A program that starts a container and crashes before it can clean up.
CRASHING = f"""
import os
from docker.types import Mount
from testcontainers.core.container import DockerContainer
container = DockerContainer("alpine:latest").with_command("sleep 300").with_kwargs(mounts=[Mount("/left", None)]).start()
print(container.get_wrapped_container().id, flush=True)
os._exit(1)
"""


def until(condition, patience=30):
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.1)


def exists(container):
    try:
        client.containers.get(container)
        return True
    except docker.errors.NotFound:
        return False


def a_server_is_waited_for_and_reached():
    with DockerContainer(SERVER).with_exposed_ports(8080).waiting_for(LogMessageWaitStrategy("Ready, listening on")) as server:
        address = f"http://{server.get_container_host_ip()}:{server.get_exposed_port(8080)}/ping"
        with urllib.request.urlopen(address, timeout=10) as reply:
            assert reply.read() == b"PONG"
        code, output = server.exec(["cat", "/www/ping"])
        assert (code, output) == (0, b"PONG")
        out, err = server.get_logs()
        assert out == b"" and b"Ready, listening" in err
        name = server.get_wrapped_container().name
    assert not exists(name)


def http_is_waited_for():
    with DockerContainer(SERVER).with_exposed_ports(8080).waiting_for(HttpWaitStrategy(8080, "/ping").for_status_code(200)):
        pass


def settings_reach_the_container():
    container = (
        DockerContainer("alpine:latest").with_env("A", "1").with_command(["sleep", "60"]).with_name("tc-settings")
        .with_volume_mapping("/tmp", "/host", "ro").with_bind_ports(8080, 0).with_kwargs(mem_limit="64m", labels={"kind": "tc"})
    )
    with container as started:
        told = client.containers.get("tc-settings")
        assert "A=1" in told.attrs["Config"]["Env"] and told.attrs["HostConfig"]["Memory"] == 64 << 20
        assert told.labels["kind"] == "tc" and LABEL in told.labels
        assert started.exec("touch /host/new").exit_code == 1
        seen = started.exec(["sh", "-c", "echo $A"])
        assert seen.output == b"1\n", seen


def the_reaper_cleans_up_behind_a_crash():
    crashed = subprocess.run([sys.executable, "-c", CRASHING], stdout=subprocess.PIPE, env=os.environ, timeout=60)
    left = crashed.stdout.decode().strip()
    assert crashed.returncode == 1 and len(left) == 64, crashed
    told = client.containers.get(left)
    session = told.labels[LABEL]
    reaper = f"testcontainers-ryuk-{session}"
    mounts = client.containers.get(reaper).attrs["Mounts"]
    assert [mount["Destination"] for mount in mounts] == ["/var/run/docker.sock"], mounts
    until(lambda: not exists(left))
    # It was made with --rm, and has nothing more to do.
    until(lambda: not exists(reaper))
    volume = next(mount["Name"] for mount in told.attrs["Mounts"] if mount["Destination"] == "/left")
    assert volume not in [one.name for one in client.volumes.list()], "the anonymous volume goes, too"


for test in [a_server_is_waited_for_and_reached, http_is_waited_for, settings_reach_the_container, the_reaper_cleans_up_behind_a_crash]:
    try:
        test()
        outcome = "ok"
    except Exception:
        traceback.print_exc()
        outcome = "FAILED"
    print(f"test {test.__name__} ... {outcome}", flush=True)
