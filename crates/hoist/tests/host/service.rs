//! The engine as a service: TLS on TCP, sockets and words of a service manager, a configuration read again.

use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hoist_testkit::{Certificates, TemporaryDirectory};
use rustix::process::{Pid, Signal, kill_process};

use crate::world::{Seen, World, able, binary, own_loopback, seen, wait_for};

/// `curl` to the engine's TCP port, with its authority and perhaps a certificate of the client's.
fn ping(port: &str, authority: &Path, client: Option<&Certificates>) -> Seen {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--cacert"])
        .arg(authority);
    if let Some(client) = client {
        curl.arg("--cert").arg(&client.certificate);
        curl.arg("--key").arg(&client.key);
    }
    seen(curl.arg(format!("https://127.0.0.1:{port}/_ping")))
}

#[test]
fn tls_lets_in_whom_the_authority_signed_and_nobody_else() {
    if !able() {
        return;
    }
    let files = TemporaryDirectory::new("tls");
    let (ours, foreign) = (files.join("ours"), files.join("foreign"));
    for directory in [&ours, &foreign] {
        std::fs::create_dir(directory).unwrap();
    }
    let ours = Certificates::new(&ours, &["127.0.0.1"]);
    let foreign = Certificates::new(&foreign, &["127.0.0.1"]);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (authority, certificate, key) = (
        path(&ours.authority),
        path(&ours.certificate),
        path(&ours.key),
    );
    let world = World::start_with(&[
        "--host",
        "tcp://127.0.0.1:0",
        "--tlsverify",
        "--tlscacert",
        &authority,
        "--tlscert",
        &certificate,
        "--tlskey",
        &key,
    ]);
    let Some(world) = world else { return };
    let log = world.daemon.log();
    let (_, after) = log.split_once("tcp://127.0.0.1:").unwrap();
    let port: String = after.chars().take_while(char::is_ascii_digit).collect();

    assert_eq!(ping(&port, &ours.authority, Some(&ours)).ok(), "OK");
    let stranger = ping(&port, &ours.authority, Some(&foreign));
    assert!(
        !stranger.out.contains("OK") && stranger.status != Some(0),
        "{stranger:?}"
    );
    let nobody = ping(&port, &ours.authority, None);
    assert!(
        !nobody.out.contains("OK") && nobody.status != Some(0),
        "{nobody:?}"
    );
    let plain = seen(Command::new("curl").args([
        "--silent",
        "--show-error",
        &format!("http://127.0.0.1:{port}/_ping"),
    ]));
    assert!(!plain.out.contains("OK"), "{plain:?}");

    // Our client, by flags and by the directory that docker's variables name.
    let host = format!("tcp://127.0.0.1:{port}");
    let client = |identity: &Certificates| {
        let mut command = world.daemon.client(crate::world::binary());
        command
            .args(["--host", &host, "--tlsverify", "--tlscacert", &authority])
            .arg("--tlscert")
            .arg(&identity.certificate)
            .arg("--tlskey")
            .arg(&identity.key)
            .args(["image", "ls", "-q"]);
        seen(&mut command)
    };
    assert!(!client(&ours).ok().is_empty());
    client(&foreign).refused(1);
    let place = files.join("place");
    std::fs::create_dir(&place).unwrap();
    std::fs::copy(&ours.authority, place.join("ca.pem")).unwrap();
    std::fs::copy(&ours.certificate, place.join("cert.pem")).unwrap();
    std::fs::copy(&ours.key, place.join("key.pem")).unwrap();
    let mut by_variables = world.daemon.client(crate::world::binary());
    by_variables
        .env("DOCKER_HOST", &host)
        .env("DOCKER_TLS_VERIFY", "1")
        .env("DOCKER_CERT_PATH", &place)
        .args(["image", "ls", "-q"]);
    assert!(!seen(&mut by_variables).ok().is_empty());

    // Renewed in place, the files hold from the next reload on.
    for (from, to) in [
        (&foreign.authority, &ours.authority),
        (&foreign.certificate, &ours.certificate),
        (&foreign.key, &ours.key),
    ] {
        std::fs::copy(from, to).unwrap();
    }
    let pid = i32::try_from(world.daemon.pid()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
    wait_for("the reload is done", || {
        world.daemon.log().contains("reload: done").then_some(())
    });
    // A port that the kernel chose is another one when it is opened anew.
    let log = world.daemon.log();
    let (_, after) = log.rsplit_once("tcp://127.0.0.1:").unwrap();
    let port: String = after.chars().take_while(char::is_ascii_digit).collect();
    assert_eq!(ping(&port, &foreign.authority, Some(&foreign)).ok(), "OK");
    let former = seen(
        Command::new("curl")
            .args(["--silent", "--show-error", "--cacert"])
            .arg(&foreign.authority)
            .arg("--cert")
            .arg(place.join("cert.pem"))
            .arg("--key")
            .arg(place.join("key.pem"))
            .arg(format!("https://127.0.0.1:{port}/_ping")),
    );
    assert!(
        !former.out.contains("OK") && former.status != Some(0),
        "{former:?}"
    );
    world.finish();
}

/// A daemon started as systemd starts one: its socket open already, its state told to a socket.
struct Service {
    child: Child,
    files: TemporaryDirectory,
    notices: UnixDatagram,
}

impl Service {
    fn start(configuration: &str) -> Self {
        let files = TemporaryDirectory::new("service");
        std::fs::write(files.join("daemon.json"), configuration).unwrap();
        let notices = UnixDatagram::bind(files.join("notify")).unwrap();
        notices
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let listener = UnixListener::bind(files.join("sock")).unwrap();
        let log = std::fs::File::create(files.join("log")).unwrap();
        // The shell stands for the service manager: it knows the process id that the daemon will have.
        let child = Command::new("sh")
            .args([
                "-c",
                "export LISTEN_PID=$$ LISTEN_FDS=1; exec 3<&0 </dev/null; exec \"$@\"",
                "sh",
            ])
            .arg(binary())
            .args(["daemon", "--host", "fd://", "--data-root"])
            .arg(files.join("data"))
            .arg("--config-file")
            .arg(files.join("daemon.json"))
            .env("NOTIFY_SOCKET", files.join("notify"))
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            child,
            files,
            notices,
        }
    }

    fn told(&self) -> String {
        let mut text = [0; 64];
        let length = self.notices.recv(&mut text).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(self.files.join("log")).unwrap_or_default();
            panic!("nothing was told: {error}\n{log}")
        });
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn client(&self, arguments: &[&str]) -> Seen {
        let host = format!("unix://{}", self.files.join("sock").display());
        seen(
            Command::new(binary())
                .env("DOCKER_HOST", host)
                .args(arguments),
        )
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A test that failed in the middle; one that did not has waited for the end.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[test]
fn a_service_manager_opens_the_socket_is_told_and_makes_it_read_its_file_again() {
    if !able() {
        return;
    }
    let mut service = Service::start(r#"{"labels": ["colour=red"]}"#);
    assert_eq!(service.told(), "READY=1");
    let labels = ["info", "--format", "{{json .Labels}}"];
    assert_eq!(service.client(&labels).ok(), "[\"colour=red\"]\n");

    let file = service.files.join("daemon.json");
    std::fs::write(
        &file,
        r#"{"labels": ["colour=blue"], "exec-root": "/nowhere"}"#,
    )
    .unwrap();
    service.signal(Signal::HUP);
    assert_eq!(service.told(), "RELOADING=1");
    assert_eq!(service.told(), "READY=1");
    assert_eq!(service.client(&labels).ok(), "[\"colour=blue\"]\n");
    let log = || std::fs::read_to_string(service.files.join("log")).unwrap();
    wait_for("the log names what stays", || {
        log()
            .contains("stays until the engine is started again")
            .then_some(())
    });
    let since = [
        "events",
        "--since",
        "5m",
        "--until",
        "0s",
        "--filter",
        "type=daemon",
    ];
    assert!(service.client(&since).ok().contains("daemon reload"));

    // A file that is wrong changes nothing, and the engine goes on.
    std::fs::write(&file, r#"{"labels": ["colour=green"], "bip": "nonsense"}"#).unwrap();
    service.signal(Signal::HUP);
    assert_eq!(service.told(), "RELOADING=1");
    assert_eq!(service.told(), "READY=1");
    assert_eq!(service.client(&labels).ok(), "[\"colour=blue\"]\n");
    assert!(log().contains("nonsense"));

    service.signal(Signal::TERM);
    assert_eq!(service.told(), "STOPPING=1");
    assert!(service.child.wait().unwrap().success());
    // The socket is the service manager's: it stays.
    assert!(service.files.join("sock").exists());
}

#[test]
fn the_pid_file_moves_with_a_reload() {
    if !able() {
        return;
    }
    let places = TemporaryDirectory::new("pidfile");
    let [first, second, taken] = ["first", "dir/second", "taken"].map(|name| places.join(name));
    let named = |path: &Path, more: &str| {
        let path = path.to_str().unwrap();
        format!("{{\"pidfile\": {path:?}, {more}}}")
    };
    let mut service = Service::start(&named(&first, r#""labels": ["at=first"]"#));
    assert_eq!(service.told(), "READY=1");
    let reload = |text: &str| {
        std::fs::write(service.files.join("daemon.json"), text).unwrap();
        service.signal(Signal::HUP);
        assert_eq!(service.told(), "RELOADING=1");
        assert_eq!(service.told(), "READY=1");
    };
    let refused = |setting: &str| {
        let log = std::fs::read_to_string(service.files.join("log")).unwrap();
        let line = log
            .lines()
            .rfind(|line| line.contains("nothing was changed"));
        assert!(line.is_some_and(|line| line.contains(setting)), "{log}");
        let labels = service.client(&["info", "--format", "{{.Labels}}"]).ok();
        assert_eq!(labels, "[at=second]\n");
    };
    let pid = service.child.id().to_string();
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    assert_eq!(read(&first).as_deref(), Some(&*pid));
    reload(&named(&second, r#""labels": ["at=second"]"#));
    assert_eq!(read(&second).as_deref(), Some(&*pid));
    assert_eq!(read(&first), None);
    // That of another engine, which runs, is not taken, and nothing else of that file is either.
    let other = std::process::id().to_string();
    std::fs::write(&taken, &other).unwrap();
    reload(&named(&taken, r#""labels": ["at=taken"]"#));
    refused("setting=\"pidfile\"");
    assert_eq!(read(&taken), Some(other));
    assert_eq!(read(&second).as_deref(), Some(&*pid));
    // A new one is taken back where something else is refused after it was written.
    reload(&named(&first, r#""bridge": "nosuchbridge""#));
    refused("nosuchbridge");
    assert_eq!(read(&first), None);
    assert_eq!(read(&second).as_deref(), Some(&*pid));
    reload("{}");
    assert_eq!(read(&second), None);
    reload(&named(&first, r#""labels": []"#));
    service.signal(Signal::TERM);
    assert!(service.child.wait().unwrap().success());
    assert_eq!(read(&first), None, "it goes with the engine");
}

#[test]
fn a_reload_opens_and_closes_hosts_and_metrics() {
    if !able() {
        return;
    }
    let files = TemporaryDirectory::new("doors");
    let (one, two) = (files.join("one"), files.join("two"));
    let own = own_loopback();
    let file = files.join("daemon.json");
    let configure = |hosts: &str, more: &str| {
        std::fs::write(&file, format!("{{\"hosts\": [{hosts}]{more}}}")).unwrap();
    };
    let unix = |path: &Path| format!("\"unix://{}\"", path.display());
    configure(&unix(&one), "");
    let log = files.join("log");
    let mut child = Command::new(binary())
        .args(["daemon", "--data-root"])
        .arg(files.join("data"))
        .arg("--config-file")
        .arg(&file)
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let answers = |host: &str| {
        let asked = seen(Command::new(binary()).env("DOCKER_HOST", host).args([
            "version",
            "--format",
            "{{.Server.Version}}",
        ]));
        asked.status == Some(0)
    };
    let host = |path: &Path| format!("unix://{}", path.display());
    wait_for("the first host answers", || {
        answers(&host(&one)).then_some(())
    });
    let hang_up = || kill_process(Pid::from_child(&child), Signal::HUP).unwrap();

    configure(
        &format!("{}, \"tcp://{own}:2375\"", unix(&two)),
        &format!(", \"metrics-addr\": \"{own}:9323\""),
    );
    hang_up();
    wait_for("the second host answers", || {
        answers(&host(&two)).then_some(())
    });
    wait_for("TCP answers", || {
        answers(&format!("tcp://{own}:2375")).then_some(())
    });
    assert!(
        !answers(&host(&one)) && !one.exists(),
        "the first is closed"
    );
    let scrape = format!("http://{own}:9323/metrics");
    let scraped = seen(Command::new("curl").args(["--silent", &scrape]));
    assert!(scraped.out.contains("hoist_engine_images 0"), "{scraped:?}");

    // A host that cannot be opened is said; the others are.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    configure(
        &format!("{}, {}, \"tcp://127.0.0.1:{port}\"", unix(&one), unix(&two)),
        "",
    );
    hang_up();
    wait_for("the first host answers again", || {
        answers(&host(&one)).then_some(())
    });
    assert!(answers(&host(&two)), "what stays is not touched");
    let text = || std::fs::read_to_string(&log).unwrap();
    wait_for("the log names it", || {
        text().contains("is not opened").then_some(())
    });

    // A key that nobody knows changes nothing.
    configure(&unix(&one), ", \"lables\": []");
    hang_up();
    wait_for("the log names the key", || {
        text().contains("lables").then_some(())
    });
    assert!(answers(&host(&two)));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}
