//! Debian's docker-registry, plain and with TLS, open and behind logins.

use std::process::Command;

use hoist_registry::{Client, Credentials, PullError};
use hoist_testkit::{
    Compression, ImageBuilder, LocalRegistry, Login, PASSWORD, RegistryOptions, TarBuilder,
    TemporaryDirectory, USER, skip,
};

use crate::support::{House, client, image, settings};

fn registry(options: &RegistryOptions) -> Option<LocalRegistry> {
    let started = LocalRegistry::start(options);
    if started.is_none() {
        skip("docker-registry is not installed");
    }
    started
}

/// `certs.d` with the registry's authority for these hosts.
fn trusting(registry: &LocalRegistry, hosts: &[&str]) -> TemporaryDirectory {
    let directory = TemporaryDirectory::new("certs");
    for host in hosts {
        let host = directory.join(host);
        std::fs::create_dir(&host).unwrap();
        std::fs::copy(registry.authority().unwrap(), host.join("ca.crt")).unwrap();
    }
    directory
}

#[tokio::test]
async fn what_skopeo_pushed_is_pulled() {
    let Some(registry) = registry(&RegistryOptions::default()) else {
        return;
    };
    for (tag, compression) in [
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
    ] {
        let layout = TemporaryDirectory::new("layout");
        let built = image()
            .compression(compression)
            .name(&format!("thing:{tag}"));
        built.write_oci_layout(layout.path());
        let Ok(pushed) = Command::new("skopeo")
            .args(["copy", "--quiet", "--dest-tls-verify=false"])
            .args(["--preserve-digests", "--insecure-policy"])
            .arg(format!("oci:{}", layout.path().display()))
            .arg(format!(
                "docker://{}/pushed/thing:{tag}",
                registry.address()
            ))
            .output()
        else {
            skip("skopeo is not installed");
            return;
        };
        assert!(pushed.status.success(), "{pushed:?}");
        let house = House::new();
        let reference = format!("{}/pushed/thing:{tag}", registry.address());
        let pulled = house.pull(&client(), &reference, None).await.unwrap();
        assert_eq!(pulled.id.to_string(), built.id(), "{tag}");
        assert_eq!(house.snapshotter.layers().len(), 2);
        let resolved = client()
            .resolve(
                &hoist_model::ImageReference::parse(&reference).unwrap(),
                None,
            )
            .await
            .unwrap();
        assert_eq!(Some(resolved.digest), pulled.manifest);
    }
    let missing = format!("{}/pushed/thing:missing", registry.address());
    let error = House::new()
        .pull(&client(), &missing, None)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest for {missing} not found: manifest unknown: manifest unknown")
    );
}

#[tokio::test]
async fn logins_of_every_kind_are_accepted_and_refused() {
    for (tls, login) in [
        (false, Login::Basic),
        (true, Login::Basic),
        (false, Login::Token),
        (true, Login::Token),
    ] {
        let options = RegistryOptions {
            tls,
            login: login.clone(),
            ..RegistryOptions::default()
        };
        let Some(registry) = registry(&options) else {
            return;
        };
        let built = image();
        registry.put("some/thing", "latest", &built);
        let reference = format!("{}/some/thing", registry.address());
        let house = House::new();
        let alice = || Credentials::basic(USER, PASSWORD);
        let pulled = house.pull(&client(), &reference, Some(alice())).await;
        assert_eq!(
            pulled.unwrap().id.to_string(),
            built.id(),
            "{tls} {login:?}"
        );
        let accepted = client()
            .authenticate(&registry.address().to_string(), alice())
            .await
            .unwrap();
        assert_eq!(accepted.status, "Login Succeeded");
        let wrong = Credentials::basic(USER, "wrong");
        let refused = client()
            .authenticate(&registry.address().to_string(), wrong)
            .await
            .unwrap_err();
        assert!(
            matches!(&refused, PullError::Unauthorized(_)),
            "{tls} {login:?}: {refused}"
        );
        if login == Login::Token {
            assert_eq!(
                refused.to_string(),
                "unauthorized: incorrect username or password"
            );
        }
        assert!(house.pull(&client(), &reference, None).await.is_err());
    }
}

#[tokio::test]
async fn a_registry_that_answers_as_docker_hub_is_docker_hub() {
    let options = RegistryOptions {
        tls: true,
        login: Login::AnonymousToken,
        names: vec!["registry-1.docker.io".into(), "auth.docker.io".into()],
        realm_host: Some("auth.docker.io".into()),
    };
    let Some(registry) = registry(&options) else {
        return;
    };
    let layer = TarBuilder::new().file("hello", 0o644, "hello").finish();
    let built = ImageBuilder::new().layer(layer);
    registry.put("library/hello", "latest", &built);
    let trusted = trusting(&registry, &["docker.io"]);
    let mut settings = settings();
    settings.certificates = Some(trusted.path().to_owned());
    let hosts = &mut settings.hosts;
    hosts.insert("registry-1.docker.io".into(), registry.address());
    hosts.insert("auth.docker.io".into(), registry.realm_address().unwrap());
    let house = House::new();
    let pulled = house
        .pull(&Client::new(settings.clone()), "hello", None)
        .await;
    let pulled = pulled.unwrap();
    assert_eq!(pulled.id.to_string(), built.id());
    assert_eq!(pulled.references[0].familiar(), "hello:latest");
    assert!(
        registry.realm_requests()[0].contains("scope=repository%3Alibrary%2Fhello%3Apull"),
        "{:?}",
        registry.realm_requests()
    );
    // Without the authority nothing is believed, the loopback address notwithstanding.
    settings.certificates = None;
    let error = house.pull(&Client::new(settings), "hello", None).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "Get \"https://registry-1.docker.io/v2/\": tls: failed to verify certificate: x509: \
         certificate of registry-1.docker.io signed by unknown authority"
    );
}

#[tokio::test]
async fn two_pulls_of_one_image_fetch_each_layer_once() {
    let Some(registry) = registry(&RegistryOptions::default()) else {
        return;
    };
    let built = image();
    registry.put("some/thing", "latest", &built);
    let house = House::new();
    let client = client();
    let reference = format!("{}/some/thing", registry.address());
    let (first, second) = tokio::join!(
        house.pull(&client, &reference, None),
        house.pull(&client, &reference, None)
    );
    assert_eq!(first.unwrap(), second.unwrap());
    for layer in built.blobs().layers {
        let fetched = registry
            .log()
            .lines()
            .filter(|line| line.contains("response completed") && line.contains(&layer.digest))
            .count();
        assert_eq!(fetched, 1, "{}", layer.digest);
    }
}

#[tokio::test]
async fn images_of_docker_hub_come_from_a_mirror_that_has_them_else_from_the_hub() {
    let options = RegistryOptions {
        tls: true,
        names: vec!["registry-1.docker.io".into()],
        ..RegistryOptions::default()
    };
    let (Some(hub), Some(mirror)) = (registry(&options), registry(&RegistryOptions::default()))
    else {
        return;
    };
    let built = |text: &str| {
        let layer = TarBuilder::new().file("where", 0o644, text).finish();
        ImageBuilder::new().layer(layer)
    };
    let (mirrored, original, other) = (built("mirror"), built("hub"), built("other"));
    mirror.put("library/both", "latest", &mirrored);
    hub.put("library/both", "latest", &original);
    hub.put("library/other", "latest", &other);
    let trusted = trusting(&hub, &["docker.io"]);
    let mut settings = settings();
    settings.certificates = Some(trusted.path().to_owned());
    settings
        .hosts
        .insert("registry-1.docker.io".into(), hub.address());
    // Nobody listens at the first.
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = away.local_addr().unwrap();
    drop(away);
    settings.mirrors = vec![
        format!("http://{nobody}"),
        format!("http://{}/", mirror.address()),
    ];
    let house = House::new();
    let client = Client::new(settings);
    for (name, expected) in [("both", &mirrored), ("other", &other)] {
        let pulled = house.pull(&client, name, None).await.unwrap();
        assert_eq!(pulled.id.to_string(), expected.id(), "{name}");
        assert_eq!(pulled.references[0].familiar(), format!("{name}:latest"));
    }
    // What is not Docker Hub's has no mirror.
    let elsewhere = format!("{}/library/other", mirror.address());
    assert!(house.pull(&client, &elsewhere, None).await.is_err());
}

#[tokio::test]
async fn who_is_offline_hears_of_everything_that_was_tried() {
    let mut settings = settings();
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = away.local_addr().unwrap();
    drop(away);
    settings.hosts.insert("registry-1.docker.io".into(), nobody);
    settings.mirrors = vec![format!("http://{nobody}"), "nonsense".to_owned()];
    let error = House::new()
        .pull(&Client::new(settings), "hello", None)
        .await;
    let error = error.unwrap_err().to_string();
    let refused = format!("dial tcp {nobody}: connect: connection refused");
    assert_eq!(
        error,
        format!(
            "Get \"https://registry-1.docker.io/v2/\": {refused} (asked before: mirror http://{nobody}: Get \"http://{nobody}/v2/\": {refused}; mirror nonsense: registry nonsense: it is no mirror: expected scheme://host)"
        )
    );
}

#[tokio::test]
async fn a_mirror_is_not_given_the_hubs_credentials() {
    let options = RegistryOptions {
        login: Login::Basic,
        ..RegistryOptions::default()
    };
    let Some(mirror) = registry(&options) else {
        return;
    };
    let layer = TarBuilder::new().file("hello", 0o644, "hello").finish();
    mirror.put("library/hello", "latest", &ImageBuilder::new().layer(layer));
    let mut settings = settings();
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    settings.hosts.insert("registry-1.docker.io".into(), nobody);
    settings.mirrors = vec![format!("http://{}", mirror.address())];
    let alice = Credentials {
        username: USER.into(),
        password: PASSWORD.into(),
        ..Credentials::default()
    };
    let house = House::new();
    let refused = house
        .pull(&Client::new(settings), "hello", Some(alice))
        .await;
    // They would have opened it.
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("registry-1.docker.io"), "{error}");
    assert!(house.is_empty());
}
