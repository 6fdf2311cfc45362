//! Who may see credentials, and what refusals say.

use hoist_model::ErrorClass;
use hoist_registry::{Credentials, PullError};
use hoist_testkit::{ImageBlobs, sha256};

use crate::fake::{Asked, Fake, Said, honest, reply};
use crate::support::{House, client, image};

const BASIC: &str = "Basic YWxpY2U6c2VjcmV0";

fn alice() -> Option<Credentials> {
    Some(Credentials::basic("alice", "secret"))
}

fn denied(challenge: &str) -> Said {
    reply(
        "401 Unauthorized",
        &[("WWW-Authenticate", challenge)],
        br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
    )
}

/// An honest registry behind one `Authorization` value.
fn guarded(blobs: &ImageBlobs, asked: &Asked, wanted: &str, challenge: &str) -> Said {
    if asked.header("authorization") == Some(wanted) {
        honest(blobs, asked)
    } else {
        denied(challenge)
    }
}

#[tokio::test]
async fn basic_credentials_open_a_registry_and_nothing_else_does() {
    let blobs = image().blobs();
    let fake = Fake::start(move |asked| guarded(&blobs, asked, BASIC, "Basic realm=\"registry\""));
    let house = House::new();
    let reference = format!("{}/a", fake.address);
    house.pull(&client(), &reference, alice()).await.unwrap();
    let error = house.pull(&client(), &reference, None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Get \"http://{}/v2/\": no basic auth credentials",
            fake.address
        )
    );
    let wrong = Some(Credentials::basic("alice", "wrong"));
    let before = fake.asked().len();
    let error = house.pull(&client(), &reference, wrong).await.unwrap_err();
    assert_eq!(error.to_string(), "unauthorized: authentication required");
    assert_eq!(error.class(), ErrorClass::Unauthorized);
    assert!(fake.asked().len() - before <= 3, "it keeps asking");
    assert!(!format!("{:?}", alice()).contains("secret"));
}

#[tokio::test]
async fn tokens_come_from_the_realm_and_are_fetched_anew_when_they_expire() {
    let blobs = image().blobs();
    let realm = Fake::start(|asked| {
        assert!(asked.target.contains("service=fake"), "{}", asked.target);
        assert!(
            asked.target.contains("scope=repository%3Asome%2Fa%3Apull"),
            "{}",
            asked.target
        );
        let number = if asked.header("authorization").is_some() {
            2
        } else {
            1
        };
        reply(
            "200 OK",
            &[],
            format!("{{\"access_token\":\"t{number}\"}}").as_bytes(),
        )
    });
    let challenge = format!(
        "Bearer realm=\"http://localhost:{}/token\",service=\"fake\"",
        realm.address.port()
    );
    let used = std::sync::atomic::AtomicUsize::new(0);
    let registry = Fake::start(move |asked| {
        // Each token serves three requests.
        let number = used.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if number.is_multiple_of(4) {
            return denied(&challenge);
        }
        guarded(&blobs, asked, "Bearer t2", &challenge)
    });
    let house = House::new();
    let reference = format!("{}/some/a", registry.address);
    house.pull(&client(), &reference, alice()).await.unwrap();
    let asked = realm.asked();
    assert!(asked.len() >= 2, "{asked:?}");
    assert!(
        asked
            .iter()
            .all(|asked| asked.header("authorization") == Some(BASIC))
    );
    assert!(asked[0].target.contains("account=alice"));
    // The registry itself never saw the password.
    assert!(
        registry
            .asked()
            .iter()
            .all(|asked| asked.header("authorization") != Some(BASIC))
    );
}

#[tokio::test]
async fn a_registry_that_always_refuses_is_not_asked_for_ever() {
    for (scheme, text) in [
        ("", "unauthorized: authentication required"),
        (
            ",error=\"insufficient_scope\"",
            "pull access denied for REPO, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        ),
        (
            ",error=\"invalid_token\"",
            "unauthorized: authentication required",
        ),
    ] {
        let realm = Fake::start(|_| reply("200 OK", &[], br#"{"token":"t"}"#));
        let challenge = format!("Bearer realm=\"http://{}/token\"{scheme}", realm.address);
        let registry = Fake::start(move |_| denied(&challenge));
        let house = House::new();
        let repository = format!("{}/a", registry.address);
        let error = house.pull(&client(), &repository, None).await.unwrap_err();
        assert_eq!(error.to_string(), text.replace("REPO", &repository));
        assert!(realm.asked().len() <= 3, "{:?}", realm.asked());
        assert!(registry.asked().len() <= 4, "{:?}", registry.asked());
    }
}

#[tokio::test]
async fn a_realm_elsewhere_does_not_see_the_password() {
    let registry = Fake::start(|_| denied("Bearer realm=\"http://192.0.2.1/token\""));
    let house = House::new();
    let reference = format!("{}/a", registry.address);
    let error = house
        .pull(&client(), &reference, alice())
        .await
        .unwrap_err();
    assert!(matches!(error, PullError::Protocol { .. }), "{error}");
    assert!(error.to_string().contains("192.0.2.1"), "{error}");
}

#[tokio::test]
async fn a_redirect_to_another_host_leaves_the_credentials_behind() {
    let blobs = image().blobs();
    let held = blobs.clone();
    let store = Fake::start(move |asked| honest(&held, asked));
    let elsewhere = format!("http://localhost:{}", store.address.port());
    let layers: Vec<String> = blobs
        .layers
        .iter()
        .map(|layer| layer.digest.clone())
        .collect();
    let registry = Fake::start(move |asked| {
        if asked.header("authorization") != Some(BASIC) {
            return denied("Basic realm=\"r\"");
        }
        if asked.target.contains("/blobs/") && !asked.target.ends_with("?here") {
            let there = if layers.iter().any(|digest| asked.is_blob(digest)) {
                format!("{elsewhere}{}", asked.target)
            } else {
                // Within one host the credentials stay.
                format!("{}?here", asked.target)
            };
            return reply("307 Temporary Redirect", &[("Location", &there)], b"");
        }
        let mut asked = asked.clone();
        asked.target = asked.target.trim_end_matches("?here").to_owned();
        honest(&blobs, &asked)
    });
    let house = House::new();
    let reference = format!("{}/a", registry.address);
    house.pull(&client(), &reference, alice()).await.unwrap();
    assert_eq!(store.asked().len(), 2);
    for asked in store.asked() {
        assert_eq!(asked.header("authorization"), None);
    }
}

/// Whoever a registry redirects to could otherwise have the registry's credentials by asking for them.
#[tokio::test]
async fn a_redirects_target_is_not_given_the_credentials_that_it_asks_for() {
    for challenge in [
        "Bearer realm=\"{self}/token\",service=\"s\"",
        "Basic realm=\"r\"",
    ] {
        let blobs = image().blobs();
        let own = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
        let told = std::sync::Arc::clone(&own);
        let thief = Fake::start(move |asked| match asked.target.starts_with("/token") {
            true => reply("200 OK", &[], br#"{"token":"t"}"#),
            false => denied(&challenge.replace("{self}", told.get().unwrap())),
        });
        let elsewhere = format!("http://localhost:{}", thief.address.port());
        own.set(elsewhere.clone()).unwrap();
        let registry = Fake::start(move |asked| {
            if asked.target.contains("/blobs/") {
                let there = format!("{elsewhere}{}", asked.target);
                return reply("307 Temporary Redirect", &[("Location", &there)], b"");
            }
            honest(&blobs, asked)
        });
        let house = House::new();
        let reference = format!("{}/a", registry.address);
        let error = house.pull(&client(), &reference, alice()).await;
        assert_eq!(error.unwrap_err().class(), ErrorClass::Unauthorized);
        assert!(!thief.asked().is_empty());
        for asked in thief.asked() {
            assert!(!asked.target.starts_with("/token"), "{challenge}");
            assert_eq!(asked.header("authorization"), None, "{challenge}");
        }
    }
}

#[tokio::test]
async fn endless_redirects_end() {
    let registry = Fake::start(|asked| match asked.target.as_str() {
        "/v2/" => reply("200 OK", &[], b""),
        target => reply("302 Found", &[("Location", target)], b""),
    });
    let house = House::new();
    let reference = format!("{}/a", registry.address);
    let error = house.pull(&client(), &reference, None).await.unwrap_err();
    assert!(
        error.to_string().ends_with("stopped after 10 redirects"),
        "{error}"
    );
}

#[tokio::test]
async fn refusals_speak_the_words_clients_look_for() {
    let blobs = image().blobs();
    let fake = Fake::start(move |asked| {
        let error = |status: &str, code: &str, message: &str| {
            let body =
                format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"{message}\"}}]}}");
            reply(status, &[], body.as_bytes())
        };
        match asked.target.as_str() {
            target if target.contains("/denied/") => error(
                "403 Forbidden",
                "DENIED",
                "requested access to the resource is denied",
            ),
            target if target.contains("/unknown/") => error(
                "404 Not Found",
                "NAME_UNKNOWN",
                "repository name not known to registry",
            ),
            target if target.contains("/busy/") => error(
                "429 Too Many Requests",
                "TOOMANYREQUESTS",
                "You have reached your pull rate limit.",
            ),
            target if target.contains("/silent/") => reply("404 Not Found", &[], b"nothing here"),
            _ => honest(&blobs, asked),
        }
    });
    let house = House::new();
    let host = fake.address;
    for (repository, text, class) in [
        (
            "image:gone",
            format!("manifest for {host}/image:gone not found: manifest unknown: manifest unknown"),
            ErrorClass::NotFound,
        ),
        (
            "silent:gone",
            format!(
                "manifest for {host}/silent:gone not found: manifest unknown: manifest unknown"
            ),
            ErrorClass::NotFound,
        ),
        (
            "denied",
            format!(
                "pull access denied for {host}/denied, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
            ),
            ErrorClass::NotFound,
        ),
        (
            "unknown",
            format!(
                "repository {host}/unknown not found: name unknown: repository name not known to registry"
            ),
            ErrorClass::NotFound,
        ),
        (
            "busy",
            "toomanyrequests: You have reached your pull rate limit.".to_owned(),
            ErrorClass::Unavailable,
        ),
    ] {
        let reference = format!("{host}/{repository}");
        let error = house.pull(&client(), &reference, None).await.unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(error.class(), class, "{text}");
    }
    assert!(house.is_empty());
}

#[tokio::test]
async fn hosts_that_do_not_answer_are_named() {
    let house = House::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = house
        .pull(&client(), &format!("{nobody}/a"), None)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Get \"http://{nobody}/v2/\": dial tcp {nobody}: connect: connection refused")
    );
    let mut settings = crate::support::settings();
    settings.hosts.insert("plain.example".into(), {
        let fake = Fake::start(|_| reply("200 OK", &[], b""));
        let address = fake.address;
        std::mem::forget(fake);
        address
    });
    let client = hoist_registry::Client::new(settings);
    let error = house
        .pull(&client, "plain.example/a", None)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Get \"https://plain.example/v2/\": http: server gave HTTP response to HTTPS client"
    );
    let digest = sha256(b"");
    let error = house
        .pull(&client, &format!("no-such-host.invalid/a@{digest}"), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(
            "Get \"https://no-such-host.invalid/v2/\": dial tcp: lookup no-such-host.invalid"
        ),
        "{error}"
    );
}
