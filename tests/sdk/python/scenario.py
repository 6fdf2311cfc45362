"""What programs do with docker-py, from ping to prune: each function is a test, run in this order on one engine."""

import io
import json
import os
import socket
import struct
import tarfile
import threading
import time
import traceback
import urllib.request

import docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from docker.types import Healthcheck, LogConfig, Mount, Ulimit

REGISTRY = os.environ["HOIST_SDK_REGISTRY"]
IMAGE = "alpine:latest"
client = docker.from_env()
api = client.api


def until(condition, patience=20):
    """Waits until the condition holds."""
    end = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < end, "never came true"
        time.sleep(0.02)
    return found


def refused(status, call, *arguments, **keywords):
    """The error text of a call that has to fail with this status."""
    try:
        call(*arguments, **keywords)
    except APIError as error:
        assert error.response.status_code == status, error
        assert error.explanation, "fails without a word"
        return error.explanation
    raise AssertionError(f"not refused with {status}")


def archive(**files):
    """A tar of these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o640
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def frames(sock):
    """Reads a multiplexed stream to its end: [(stream, bytes)]."""
    found = []
    while header := read(sock, 8):
        stream, length = struct.unpack(">BxxxL", header)
        found.append((stream, read(sock, length)))
    return found


def read(sock, length):
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            assert not data, "the stream ends within a frame"
            return b""
        data += more
    return data


def raw(attached):
    """The socket below what docker-py wraps."""
    return getattr(attached, "_sock", attached)


def versions_and_ping():
    assert client.ping() is True
    version = client.version()
    assert version["ApiVersion"] == "1.55" and version["MinAPIVersion"] == "1.24", version
    assert {part["Name"] for part in version["Components"]} >= {"Engine"}, version
    for wanted in ["1.24", "1.40", "1.44", "1.47", "1.51", "1.52", "1.55", "auto"]:
        old = docker.DockerClient(base_url=os.environ["DOCKER_HOST"], version=wanted)
        assert old.version(api_version=False)["Os"] == "linux"
        assert isinstance(old.containers.list(all=True), list)
        assert isinstance(old.images.list(), list)
        assert isinstance(old.volumes.list(), list)
        assert isinstance(old.networks.list(), list)
        if wanted not in ("1.24", "1.55", "auto"):
            assert isinstance(old.df()["Volumes"], (list, type(None)))
        old.close()
    assert "too new" in refused(400, docker.APIClient(version="1.99").version)


def info_tells_the_machine():
    info = client.info()
    assert info["OSType"] == "linux" and info["NCPU"] == os.cpu_count(), info
    assert info["MemTotal"] > 0 and info["Containers"] == 0, info
    assert info["Swarm"]["LocalNodeState"] == "inactive"
    assert info["Plugins"]["Volume"] == ["local"] and isinstance(info["SecurityOptions"], list)
    assert isinstance(client.plugins.list(), list)
    assert "not a swarm manager" in refused(503, client.services.list)


def pull_from_hub_and_registry():
    assert IMAGE in client.images.pull("alpine", tag="latest").tags
    name = f"{REGISTRY}/busybox"
    lines = list(api.pull(name, tag="latest", stream=True, decode=True))
    assert any(line.get("status", "").startswith("Status: Downloaded newer image") for line in lines)
    image = client.images.get(f"{name}:latest")
    assert image.attrs["RepoDigests"][0].startswith(f"{name}@sha256:")
    assert image.attrs["Config"]["Cmd"] == ["sh"] and image.attrs["Os"] == "linux"
    assert image.short_id.startswith("sha256:")
    platform = client.images.pull("hello-world", tag="linux", platform="linux/386")
    assert platform.attrs["Architecture"] == "386"
    try:
        client.images.pull(f"{REGISTRY}/missing", tag="1")
        raise AssertionError("pulled what is not there")
    except NotFound as error:
        assert "not found" in str(error)
    try:
        client.images.get("nothing:here")
        raise AssertionError("found what is not there")
    except ImageNotFound:
        pass


def images_tag_history_save_load():
    image = client.images.get(IMAGE)
    assert image.tag("here", tag="1") and image.tag("localhost/deep/name", tag="2")
    assert {layer["Tags"][0] for layer in image.history() if layer["Tags"]} <= {*image.tags, "here:1", "localhost/deep/name:2"}
    assert {"here:1", IMAGE} <= set(client.images.get("here:1").tags)
    listed = client.images.list(filters={"reference": "here"})
    assert [one.id for one in listed] == [image.id]
    assert client.images.list(name="here")[0].id == image.id
    assert client.images.list(filters={"dangling": True}) == []
    image.reload()
    saved = b"".join(image.save(named="here:1"))
    refused(404, api.remove_image, "here:2")
    client.images.remove("here:1")
    assert "here:1" in client.images.load(saved)[0].tags
    client.images.remove("here:1")
    client.images.remove("localhost/deep/name:2")
    refused(400, client.images.list, filters={"nonsense": "1"})


def run_and_its_errors():
    assert client.containers.run(IMAGE, ["echo", "hello"], remove=True) == b"hello\n"
    both = client.containers.run(IMAGE, ["sh", "-c", "echo out; echo err >&2"], remove=True, stderr=True)
    assert sorted(both.split()) == [b"err", b"out"]
    try:
        client.containers.run(IMAGE, ["sh", "-c", "echo why >&2; exit 7"], remove=True)
        raise AssertionError("exit code 7 went unseen")
    except ContainerError as error:
        assert error.exit_status == 7 and error.stderr == b"why\n"
    try:
        client.containers.run("absent.invalid/image", "true", remove=True)
        raise AssertionError("ran what is not there")
    except APIError:
        pass
    try:
        client.containers.run(IMAGE, ["nosuchprogram"], name="unstartable")
        raise AssertionError("ran what is not there")
    except APIError as error:
        assert error.response.status_code in (400, 404, 500), error
        assert "executable file not found" in error.explanation
    client.containers.get("unstartable").remove()
    assert client.containers.list(all=True) == []


def create_with_many_options():
    container = client.containers.create(
        IMAGE, ["sleep", "60"], name="options", hostname="inside", domainname="example.test", user="1000:1000",
        working_dir="/tmp", environment={"A": "1", "B": ""}, labels={"kind": "many"}, entrypoint=["/bin/env"],
        mem_limit="64m", memswap_limit="128m", mem_reservation="32m", cpu_shares=512, cpu_period=100000, cpu_quota=50000, cpuset_cpus="0",
        pids_limit=50, shm_size="8m", oom_score_adj=100, init=True, read_only=True, privileged=False,
        cap_add=["NET_ADMIN"], cap_drop=["MKNOD"], security_opt=["no-new-privileges"], group_add=["2000"],
        ulimits=[Ulimit(name="nofile", soft=100, hard=200)], sysctls={"net.ipv4.ip_forward": "0"},
        tmpfs={"/scratch": "size=1m,mode=1777"}, devices=["/dev/null:/dev/nil:rw"], dns=["192.0.2.1"], dns_search=["example.test"], dns_opt=["ndots:3"],
        extra_hosts={"other": "192.0.2.2"}, ports={"80/tcp": ("127.0.0.1", None), "53/udp": None},
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 2}, stop_signal="SIGINT",
        log_config=LogConfig(type="json-file", config={"max-size": "1m", "max-file": "2"}), tty=True, stdin_open=True,
        healthcheck=Healthcheck(test=["NONE"]), mounts=[Mount("/vol", "options-data", labels={"for": "options"})],
        volumes={"/tmp": {"bind": "/host", "mode": "ro"}},
    )
    kept, host = container.attrs["Config"], container.attrs["HostConfig"]
    assert container.status == "created" and container.name == "options" and len(container.id) == 64
    assert kept["Hostname"] == "inside" and kept["User"] == "1000:1000" and kept["Tty"] and kept["OpenStdin"]
    assert {"A=1", "B="} <= set(kept["Env"]) and kept["Labels"]["kind"] == "many"
    assert kept["Entrypoint"] == ["/bin/env"] and kept["Cmd"] == ["sleep", "60"] and kept["StopSignal"] == "SIGINT"
    assert host["Memory"] == 64 << 20 and host["MemorySwap"] == 128 << 20 and host["CpuQuota"] == 50000
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 100, "Hard": 200}], host["Ulimits"]
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert host["PidsLimit"] == 50 and host["ShmSize"] == 8 << 20 and host["Init"] and host["ReadonlyRootfs"]
    assert host["CapAdd"] in (["NET_ADMIN"], ["CAP_NET_ADMIN"]) and host["SecurityOpt"] == ["no-new-privileges"]
    assert host["PortBindings"]["80/tcp"][0]["HostIp"] == "127.0.0.1" and host["ExtraHosts"] == ["other:192.0.2.2"]
    assert {mount["Type"] for mount in container.attrs["Mounts"]} == {"volume", "bind"}, container.attrs["Mounts"]
    container.start()
    container.reload()
    assert container.status == "running" and container.attrs["State"]["Pid"] > 0
    seen = container.exec_run(["sh", "-c", "id -u; pwd; hostname; ulimit -n; cat /proc/sys/net/ipv4/ip_forward; echo $A; ls -d /dev/nil /host/. /vol /scratch"])
    assert seen.exit_code == 0, seen
    assert seen.output.decode().split()[:6] == ["1000", "/tmp", "inside", "100", "0", "1"], seen
    port = container.attrs["NetworkSettings"]["Ports"]["80/tcp"]
    assert port[0]["HostIp"] == "127.0.0.1" and int(port[0]["HostPort"]) > 0
    assert container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    refused(409, container.remove)
    refused(409, client.containers.create, IMAGE, name="options")
    container.remove(force=True, v=True)
    refused(404, client.containers.get, "options")
    client.volumes.get("options-data").remove()
    refused(400, client.containers.create, IMAGE, mem_limit="1k")
    refused(400, client.containers.create, IMAGE, name="not a name")
    refused(404, client.containers.create, "nothing:here")


def attach_with_half_close():
    container = api.create_container(IMAGE, ["sh", "-c", "cat; echo over >&2"], stdin_open=True, detach=False)
    sock = raw(api.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}))
    api.start(container)
    sock.sendall(b"one\n")
    assert read(sock, 12) == b"\x01\0\0\0\0\0\0\x04one\n"
    sock.sendall(b"two\n")
    sock.shutdown(socket.SHUT_WR)
    rest = frames(sock)
    assert rest == [(1, b"two\n"), (2, b"over\n")], rest
    sock.close()
    assert api.wait(container)["StatusCode"] == 0
    replayed = api.attach(container, stdout=True, stderr=True, logs=True, stream=False, demux=True)
    assert replayed == (b"one\ntwo\n", b"over\n"), replayed
    api.remove_container(container)


def logs_in_all_forms():
    script = "for i in 1 2 3; do echo line $i; done; echo bad >&2; sleep 0.5; echo late"
    container = client.containers.run(IMAGE, ["sh", "-c", script], detach=True)
    followed = b"".join(container.logs(stream=True, follow=True))
    assert followed.count(b"\n") == 5 and followed.endswith(b"late\n"), followed
    assert container.logs(stdout=False, stderr=True) == b"bad\n"
    assert container.logs(tail=1) == b"late\n"
    stamped = container.logs(timestamps=True, stderr=False).split(b"\n")[0]
    assert stamped.endswith(b"Z line 1"), stamped
    assert container.logs(since=int(time.time()) + 100) == b""
    assert container.logs(until=int(time.time()) - 100) == b""
    assert list(container.logs(stream=True, follow=False))
    refused(400, api.logs, container.id, stdout=False, stderr=False)
    container.remove()


def exec_in_all_forms():
    container = client.containers.run(IMAGE, ["sleep", "60"], detach=True, name="execs")
    code, (out, err) = container.exec_run(["sh", "-c", "echo o; echo e >&2; exit 3"], demux=True)
    assert (code, out, err) == (3, b"o\n", b"e\n")
    assert container.exec_run("env", environment=["X=y"], workdir="/tmp", user="1").output.find(b"X=y") >= 0
    assert container.exec_run(["nosuchprogram"]).exit_code in (126, 127)
    streamed = container.exec_run(["sh", "-c", "echo a; echo b"], stream=True)
    assert b"".join(streamed.output) == b"a\nb\n"
    made = api.exec_create(container.id, ["sh", "-c", "stty size; read line; stty size; exit 5"], tty=True, stdin=True)
    before = api.exec_inspect(made)
    assert before["Running"] is False and before["ExitCode"] is None and before["ProcessConfig"]["tty"] is True
    sock = raw(api.exec_start(made, tty=True, socket=True))
    api.exec_resize(made, height=31, width=99)
    sock.sendall(b"\n")
    text = b""
    while more := sock.recv(4096):
        text += more
    sock.close()
    assert b"31 99" in text, text
    after = until(lambda: (lambda told: told if not told["Running"] else None)(api.exec_inspect(made)))
    assert after["ExitCode"] == 5 and after["ContainerID"] == container.id and after["OpenStdin"] is True
    detached = api.exec_create(container.id, ["sh", "-c", "echo gone >/tmp/detached"])
    api.exec_start(detached, detach=True)
    until(lambda: container.exec_run(["cat", "/tmp/detached"]).output == b"gone\n")
    half = api.exec_create(container.id, ["cat"], stdin=True)
    sock = raw(api.exec_start(half, socket=True))
    sock.sendall(b"through")
    sock.shutdown(socket.SHUT_WR)
    assert frames(sock) == [(1, b"through")]
    sock.close()
    refused(404, api.exec_inspect, "0" * 64)
    container.pause()
    assert "paused" in refused(409, api.exec_create, container.id, ["true"])
    container.unpause()
    container.kill()
    container.wait()
    assert "is not running" in refused(409, api.exec_create, container.id, ["true"])
    container.remove()


def stats_and_top():
    container = client.containers.run(IMAGE, ["sleep", "60"], detach=True, mem_limit="64m")
    one = container.stats(stream=False)
    assert one["memory_stats"]["limit"] == 64 << 20 and one["pids_stats"]["current"] >= 1, one
    assert one["precpu_stats"]["cpu_usage"]["total_usage"] >= 0 and "eth0" in one["networks"]
    shot = api.stats(container.id, stream=False, one_shot=True)
    assert shot["precpu_stats"].get("system_cpu_usage", 0) == 0 and shot["id"] == container.id
    stream = container.stats(stream=True, decode=True)
    first, second = next(stream), next(stream)
    stream.close()
    assert second["read"] > first["read"] and second["preread"] == first["read"]
    top = container.top()
    assert "PID" in top["Titles"] and any("sleep" in " ".join(row) for row in top["Processes"])
    assert container.top(ps_args="-o pid,comm")["Titles"] == ["PID", "COMMAND"]
    container.remove(force=True)
    refused(404, api.top, container.id)


def archives():
    container = client.containers.create(IMAGE, ["sh", "-c", "cat /tmp/in"])
    assert container.put_archive("/tmp", archive(**{"in": b"put\n"}))
    container.start()
    assert container.wait()["StatusCode"] == 0 and container.logs() == b"put\n"
    stream, stat = container.get_archive("/tmp/in")
    assert stat["name"] == "in" and stat["size"] == 4 and stat["mode"] & 0o777 == 0o640, stat
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        assert tar.extractfile("in").read() == b"put\n"
    _, stat = container.get_archive("/etc")
    assert stat["mode"] & (1 << 31), "a directory has Go's bit"
    assert "Could not find the file" in refused(404, container.get_archive, "/nowhere")
    refused(404, container.put_archive, "/nowhere", archive(a=b""))
    refused(400, container.put_archive, "/tmp/in", archive(a=b""))
    container.remove()


def waits():
    container = client.containers.create(IMAGE, ["sh", "-c", "exit 4"], auto_remove=True)
    # As `wait` asks; the head comes when the engine has taken it up, the body at the end.
    url = api._url("/containers/{0}/wait", container.id)
    taken = {kind: api._post(url, params={"condition": kind}, stream=True) for kind in ("next-exit", "removed")}
    container.start()
    done = {kind: reply.json()["StatusCode"] for kind, reply in taken.items()}
    assert done == {"next-exit": 4, "removed": 4}, done
    ended = client.containers.create(IMAGE, ["sh", "-c", "exit 5"])
    ended.start()
    assert ended.wait()["StatusCode"] == 5
    ended.remove()
    refused(404, container.wait)
    resting = client.containers.create(IMAGE, ["true"])
    assert resting.wait(condition="not-running")["StatusCode"] == 0
    refused(400, resting.wait, condition="someday")
    resting.remove()


def life_verbs():
    container = client.containers.run(IMAGE, ["sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.05; done"], detach=True, name="verbs")
    container.start()  # 304: running already
    container.pause()
    container.reload()
    assert container.status == "paused" and container.attrs["State"]["Paused"]
    assert "already paused" in refused(409, container.pause)
    container.unpause()
    before = container.attrs["State"]["StartedAt"]
    container.restart(timeout=5)
    container.reload()
    assert container.attrs["State"]["StartedAt"] > before and container.attrs["RestartCount"] == 0
    # Until it has a handler for SIGTERM (bit 14 of SigCgt, proc_pid_status(5)).
    container.exec_run(["sh", "-c", 'until grep -q "^SigCgt:.*[4-7c-f]...$" /proc/1/status; do sleep 0.05; done'])
    container.kill(signal="CONT")
    refused(400, container.kill, signal="NONSENSE")
    container.rename("renamed")
    container.reload()
    assert container.name == "renamed"
    refused(404, client.containers.get, "verbs")
    assert container.update(mem_limit="100m", memswap_limit="200m", cpu_shares=300, restart_policy={"Name": "no"})["Warnings"] in (None, [])
    container.reload()
    assert container.attrs["HostConfig"]["Memory"] == 100 << 20
    container.stop(timeout=5)
    container.reload()
    assert container.status == "exited" and container.attrs["State"]["ExitCode"] == 9
    container.stop()  # 304: at rest already
    assert "is not running" in refused(409, container.kill)
    container.remove()


def health():
    check = Healthcheck(test=["CMD-SHELL", "test -e /tmp/well"], interval=100_000_000, timeout=5_000_000_000, retries=2)
    container = client.containers.run(IMAGE, ["sleep", "60"], detach=True, healthcheck=check)
    until(lambda: container.reload() or container.health == "unhealthy")
    log = container.attrs["State"]["Health"]["Log"]
    assert log[-1]["ExitCode"] == 1 and container.attrs["State"]["Health"]["FailingStreak"] >= 2
    container.exec_run(["touch", "/tmp/well"])
    until(lambda: container.reload() or container.health == "healthy")
    assert client.containers.list(filters={"health": "healthy"})[0].id == container.id
    container.remove(force=True)


def events():
    start = time.time()
    seen, ready = [], threading.Event()
    stream = client.events(decode=True, filters={"type": "container", "label": "watched=yes"})

    def watch():
        ready.set()
        for event in stream:
            seen.append(event)
            if event["Action"] == "destroy":
                return

    thread = threading.Thread(target=watch)
    thread.start()
    ready.wait()
    client.containers.run(IMAGE, "true", labels={"watched": "yes"}, name="watched", remove=True)
    thread.join(20)
    stream.close()
    actions = [event["Action"] for event in seen]
    assert [action for action in actions if action != "attach"] == ["create", "start", "die", "destroy"], actions
    die = next(event for event in seen if event["Action"] == "die")
    assert die["Actor"]["Attributes"]["exitCode"] == "0" and die["Actor"]["Attributes"]["name"] == "watched"
    assert die["scope"] == "local" and die["timeNano"] // 10**9 == die["time"]
    told = list(client.events(decode=True, since=start - 1, until=time.time() + 1, filters={"event": ["create", "die"], "container": "watched"}))
    assert [event["Action"] for event in told] == ["create", "die"], told
    old = docker.from_env(version="1.40")
    event = next(iter(old.events(decode=True, since=start - 1, until=time.time() + 1, filters={"event": "die", "container": "watched"})))
    assert event["status"] == "die" and event["id"] == die["Actor"]["ID"] and event["from"] == IMAGE
    old.close()


def volumes():
    volume = client.volumes.create("py-data", driver="local", labels={"a": "b"})
    assert volume.attrs["Mountpoint"] and volume.attrs["Scope"] == "local" and volume.attrs["Labels"] == {"a": "b"}
    assert client.volumes.create("py-data").id == volume.id
    client.containers.run(IMAGE, ["sh", "-c", "echo kept >/data/file"], volumes={"py-data": {"bind": "/data", "mode": "rw"}}, remove=True)
    holder = client.containers.run(IMAGE, ["sleep", "60"], volumes={"py-data": {"bind": "/data", "mode": "ro"}}, detach=True)
    read_back = holder.exec_run("cat /data/file")
    assert read_back.output == b"kept\n", read_back
    assert holder.exec_run("touch /data/new").exit_code == 1
    assert "in use" in refused(409, volume.remove)
    assert [one.id for one in client.volumes.list(filters={"label": "a=b"})] == ["py-data"]
    assert client.volumes.list(filters={"dangling": True}) == []
    holder.remove(force=True)
    anonymous = client.containers.create(IMAGE, volumes=["/anonymous"])
    anonymous.remove(v=False)
    pruned = client.volumes.prune()
    assert len(pruned["VolumesDeleted"]) == 1 and "py-data" not in pruned["VolumesDeleted"], pruned
    assert client.volumes.prune(filters={"all": True})["VolumesDeleted"] == ["py-data"]
    assert client.volumes.prune()["VolumesDeleted"] in (None, [])
    refused(404, client.volumes.get, "py-data")


def commit_export_import():
    container = client.containers.run(IMAGE, ["sh", "-c", "echo changed >/new; rm /etc/alpine-release"], detach=True)
    container.wait()
    assert {(line["Path"], line["Kind"]) for line in container.diff()} == {("/new", 1), ("/etc", 0), ("/etc/alpine-release", 2)}
    image = container.commit("committed", tag="1", message="why", author="who", changes=["CMD [\"cat\", \"/new\"]"], conf={"Labels": {"x": "y"}})
    assert image.attrs["Comment"] == "why" and image.attrs["Author"] == "who" and image.labels["x"] == "y"
    assert client.containers.run("committed:1", remove=True) == b"changed\n"
    exported = b"".join(container.export())
    with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
        assert tar.extractfile("new").read() == b"changed\n" and "etc/alpine-release" not in tar.getnames()
    told = api.import_image_from_data(exported, repository="imported", tag="1")
    assert json.loads(told.strip().splitlines()[-1])["status"].startswith("sha256:"), told
    assert client.containers.run("imported:1", ["cat", "/new"], remove=True) == b"changed\n"
    unchanged = client.containers.create(IMAGE)
    assert not unchanged.diff()
    unchanged.remove()
    container.remove()
    client.images.remove("committed:1")
    client.images.remove("imported:1")


def lists_filters_and_prune():
    one = client.containers.create(IMAGE, name="list-one", labels={"n": "1"})
    two = client.containers.run(IMAGE, ["sleep", "60"], name="list-two", labels={"n": "2"}, detach=True, ports={"80/tcp": None})
    three = client.containers.run(IMAGE, ["false"], name="list-three", detach=True)
    three.wait()

    def names(**filters):
        return sorted(found.name for found in client.containers.list(all=True, filters=filters))

    assert names() == ["list-one", "list-three", "list-two"]
    assert [found.name for found in client.containers.list()] == ["list-two"]
    assert names(status="created") == ["list-one"] and names(exited=1) == ["list-three"]
    assert names(label="n=2") == ["list-two"] and names(label=["n"]) == ["list-one", "list-two"]
    assert names(name="list-t") == ["list-three", "list-two"] and names(id=two.id[:12]) == ["list-two"]
    assert names(ancestor=IMAGE) == names() and names(network="bridge") == names() and names(publish="80/tcp") == ["list-two"]
    assert [found.name for found in client.containers.list(all=True, filters={"before": two.id})] == ["list-one"]
    assert [found.name for found in client.containers.list(all=True, limit=1)] == ["list-three"]
    summary = api.containers(all=True, size=True, filters={"name": "list-two"})[0]
    assert summary["Names"] == ["/list-two"] and summary["State"] == "running" and "SizeRootFs" in summary
    assert summary["Ports"] and summary["NetworkSettings"]["Networks"]["bridge"] and summary["Mounts"] == []
    refused(400, client.containers.list, filters={"nonsense": "1"})
    assert client.containers.prune(filters={"label": ["n=1"]})["ContainersDeleted"] == [one.id]
    two.remove(force=True)
    assert client.containers.prune()["ContainersDeleted"] == [three.id]
    assert not client.containers.prune()["ContainersDeleted"]
    assert client.networks.get("bridge").attrs["Driver"] == "bridge"
    assert {network.name for network in client.networks.list()} == {"bridge", "host", "none"}
    assert client.images.prune()["SpaceReclaimed"] == 0
    assert client.df()["ContainerUsage"].get("TotalCount", 0) == 0


def published_port_answers():
    server = client.containers.run("testcontainers/helloworld:1.3.0", detach=True, publish_all_ports=True)
    port = until(lambda: server.reload() or server.ports.get("8080/tcp"))[0]["HostPort"]

    def answers():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2) as reply:
                return reply.read()
        except OSError:
            return None

    assert until(answers) == b"PONG"
    server.remove(force=True)


TESTS = [
    versions_and_ping, info_tells_the_machine, pull_from_hub_and_registry, images_tag_history_save_load, run_and_its_errors, create_with_many_options,
    attach_with_half_close, logs_in_all_forms, exec_in_all_forms, stats_and_top, archives, waits, life_verbs, health,
    events, volumes, commit_export_import, lists_filters_and_prune, published_port_answers,
]

for test in TESTS:
    try:
        test()
        outcome = "ok"
    except Exception:
        traceback.print_exc()
        outcome = "FAILED"
        for left in client.containers.list(all=True):
            left.remove(force=True)
    print(f"test {test.__name__} ... {outcome}", flush=True)
