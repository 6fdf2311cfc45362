//! Command lines and the bodies they become.

use clap::{Args, Command, FromArgMatches};
use expect_test::{Expect, expect};

use super::*;

fn body(line: &str, detach: bool) -> String {
    let command = ContainerFlags::augment_args(Command::new("run").disable_help_flag(true));
    let words = std::iter::once("run").chain(line.split_whitespace());
    let flags = command
        .try_get_matches_from(words)
        .and_then(|m| ContainerFlags::from_arg_matches(&m))
        .unwrap();
    let host = Host {
        variable: &|name| (name == "HOME").then(|| "/home/me".to_owned()),
        read: &|path| match path {
            "vars" => Ok(b"# c\nFROM_FILE=1\nHOME\n".to_vec()),
            "profile.json" => Ok(b"{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
        directory: Path::new("/work"),
        console: Some((24, 80)),
    };
    match create_body(&flags, detach, &host) {
        Ok(body) => body.to_string(),
        Err(error) => error.to_string(),
    }
}

fn check(line: &str, expected: Expect) {
    expected.assert_eq(&body(line, false));
}

#[test]
fn streams() {
    check(
        "debian",
        expect![[r#"{"Image":"debian","AttachStdout":true,"AttachStderr":true}"#]],
    );
    check(
        "-it debian bash -c ls",
        expect![[
            r#"{"Image":"debian","AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"Tty":true,"OpenStdin":true,"StdinOnce":true,"Cmd":["bash","-c","ls"],"HostConfig":{"ConsoleSize":[24,80]}}"#
        ]],
    );
    check(
        "-i debian cat",
        expect![[
            r#"{"Image":"debian","AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"OpenStdin":true,"StdinOnce":true,"Cmd":["cat"]}"#
        ]],
    );
    check(
        "-a stderr debian",
        expect![[r#"{"Image":"debian","AttachStderr":true}"#]],
    );
    expect![[r#"{"Image":"debian","OpenStdin":true,"Cmd":["cat"]}"#]]
        .assert_eq(&body("-d -i debian cat".trim_start_matches("-d "), true));
}

#[test]
fn what_runs() {
    check(
        "--entrypoint sh -u 1000:1000 -w /tmp -h box --stop-signal INT --stop-timeout 3 debian -c true",
        expect![[
            r#"{"Image":"debian","Hostname":"box","User":"1000:1000","AttachStdout":true,"AttachStderr":true,"Cmd":["-c","true"],"Entrypoint":["sh"],"WorkingDir":"/tmp","StopSignal":"INT","StopTimeout":3}"#
        ]],
    );
    check(
        "-e A=1 -e HOME -e UNSET -e EMPTY= --env-file vars x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"Env":["FROM_FILE=1","HOME=/home/me","A=1","HOME=/home/me","EMPTY="]}"#
        ]],
    );
    check(
        "-l a=b -l c --annotation k=v x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"Labels":{"a":"b","c":""},"HostConfig":{"Annotations":{"k":"v"}}}"#
        ]],
    );
    check(
        "--health-cmd true --health-interval 1m30s --health-retries 2 x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":90000000000,"Retries":2}}"#
        ]],
    );
    check(
        "--no-healthcheck x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"Healthcheck":{"Test":["NONE"]}}"#
        ]],
    );
}

#[test]
fn limits_and_isolation() {
    check(
        "-m 64m --memory-swap -1 --cpus .5 --pids-limit 50 --ulimit nofile=99 --shm-size 1g x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"HostConfig":{"ShmSize":1073741824,"Memory":67108864,"MemorySwap":-1,"NanoCpus":500000000,"PidsLimit":50,"Ulimits":[{"Name":"nofile","Soft":99,"Hard":99}]}}"#
        ]],
    );
    check(
        "--rm --init --privileged --read-only --cap-add ALL --cap-drop CHOWN --pid host x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"HostConfig":{"ReadonlyRootfs":true,"AutoRemove":true,"Privileged":true,"Init":true,"CapAdd":["ALL"],"CapDrop":["CHOWN"],"PidMode":"host"}}"#
        ]],
    );
    check(
        "--security-opt no-new-privileges --security-opt seccomp=profile.json x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"HostConfig":{"SecurityOpt":["no-new-privileges","seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]}}"#
        ]],
    );
    check(
        "--restart on-failure:3 --log-driver json-file --log-opt max-size=1m x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"HostConfig":{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},"LogConfig":{"Type":"json-file","Config":{"max-size":"1m"}}}}"#
        ]],
    );
    check(
        "--device /dev/fuse --device acme.com/gpu=0 --sysctl net.core.somaxconn=9 x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"HostConfig":{"Sysctls":{"net.core.somaxconn":"9"},"Devices":[{"PathOnHost":"/dev/fuse","PathInContainer":"/dev/fuse","CgroupPermissions":"rwm"}],"DeviceRequests":[{"Driver":"cdi","DeviceIDs":["acme.com/gpu=0"]}]}}"#
        ]],
    );
}

#[test]
fn storage_and_network() {
    check(
        "-v .:/src:ro -v data:/data -v /anon --tmpfs /run:size=1m x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"Volumes":{"/anon":{}},"HostConfig":{"Binds":["/work:/src:ro","data:/data"],"Tmpfs":{"/run":"size=1m"}}}"#
        ]],
    );
    check(
        "--mount type=bind,src=./a,dst=/a --volumes-from c:ro x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"HostConfig":{"Mounts":[{"Type":"bind","Source":"/work/a","Target":"/a"}],"VolumesFrom":["c:ro"]}}"#
        ]],
    );
    check(
        "-p 8080:80 -P --expose 53/udp x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"ExposedPorts":{"53/udp":{},"80/tcp":{}},"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},"PublishAllPorts":true}}"#
        ]],
    );
    check(
        "--network front --network-alias web --ip 10.0.0.5 --network name=back,alias=db x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"NetworkingConfig":{"EndpointsConfig":{"front":{"Aliases":["web"],"IPAMConfig":{"IPv4Address":"10.0.0.5"}},"back":{"Aliases":["db"]}}},"HostConfig":{"NetworkMode":"front"}}"#
        ]],
    );
    check(
        "--add-host db:10.0.0.1 --add-host v6=[::1] --dns 1.1.1.1 --network none x",
        expect![[
            r#"{"Image":"x","AttachStdout":true,"AttachStderr":true,"HostConfig":{"Dns":["1.1.1.1"],"ExtraHosts":["db:10.0.0.1","v6:::1"],"NetworkMode":"none"}}"#
        ]],
    );
}

#[test]
fn what_cannot_be_is_refused_and_named() {
    check(
        "--rm --restart always x",
        expect!["conflicting options: cannot specify both --restart and --rm"],
    );
    check(
        "-a stdnone x",
        expect![[
            r#"invalid argument "stdnone" for "--attach" flag: valid streams are STDIN, STDOUT and STDERR"#
        ]],
    );
    check(
        "--env-file nowhere x",
        expect!["open nowhere: no such file or directory"],
    );
    check(
        "--security-opt apparmor x",
        expect![[
            r#"invalid argument "apparmor" for "--security-opt" flag: expected option=value"#
        ]],
    );
    check(
        "--add-host db x",
        expect![[r#"invalid argument "db" for "--add-host" flag: bad format for add-host: "db""#]],
    );
    check(
        "-e =x x",
        expect![[r#"invalid argument "=x" for "--env" flag: invalid environment variable: =x"#]],
    );
    check(
        "--sysctl a x",
        expect![[r#"invalid argument "a" for "--sysctl" flag: sysctl 'a' is not allowed"#]],
    );
    check(
        "--cpus two x",
        expect![[
            r#"invalid argument "two" for "--cpus" flag: failed to parse two as a rational number"#
        ]],
    );
}
