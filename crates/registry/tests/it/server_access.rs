//! Who may do what on a server: passwords, tokens and rights.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hoist_registry::server::{AccessSettings, ServerSettings};
use serde_json::{Value, json};

use crate::server_support::{OCI_MANIFEST, Served, sha256};

/// bcrypt of `wonderland`, and of no password at all that a test uses.
const USERS: &str = "alice:$2y$04$SAs2IzJT0mu1KE6jqPSI/.WZRNGSjbWHcKEunt8.Ir6FpHsR3Bp2e\n\
    bob:$2y$04$SAs2IzJT0mu1KE6jqPSI/.WZRNGSjbWHcKEunt8.Ir6FpHsR3Bp2e\n";
const RIGHTS: &str = "@anyone pull public/**\n@users pull *\n@users all {user}/**\n";

fn served(root: &Path, rights: Option<&str>, tokens: bool) -> Served {
    let users = root.join("users");
    std::fs::write(&users, USERS).unwrap();
    let rights = rights.map(|text| {
        let path = root.join("rights");
        std::fs::write(&path, text).unwrap();
        path
    });
    let mut settings = ServerSettings::new(root.join("images"));
    settings.access = AccessSettings::Users {
        users,
        rights,
        tokens,
    };
    Served::with(settings)
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// The status that a request is answered with.
fn status(served: &Served, authorization: Option<&str>, method: &str, path: &str) -> u16 {
    let headers: Vec<_> = authorization
        .map(|value| ("Authorization", value))
        .into_iter()
        .collect();
    served.ask(method, path, &headers, b"").status
}

#[test]
fn who_has_no_password_is_told_how_to_show_one() {
    let root = tempfile::tempdir().unwrap();
    let served = served(root.path(), None, false);
    let alice = basic("alice", "wonderland");
    for path in [
        "/v2/",
        "/v2/_catalog",
        "/v2/a/tags/list",
        "/v2/a/manifests/1",
    ] {
        let answer = served.get(path);
        assert_eq!(answer.refusal(), (401, "UNAUTHORIZED".to_owned()), "{path}");
        assert_eq!(
            answer.header("www-authenticate"),
            "Basic realm=\"hoist registry\""
        );
        for wrong in [
            basic("alice", "Wonderland"),
            basic("carol", "wonderland"),
            basic("", ""),
            "Basic ???".to_owned(),
            "Bearer x.y.z".to_owned(),
            "Digest a".to_owned(),
        ] {
            assert_eq!(
                status(&served, Some(&wrong), "GET", path),
                401,
                "{path} {wrong}"
            );
        }
    }
    assert_eq!(status(&served, Some(&alice), "GET", "/v2/"), 200);
    assert_eq!(
        status(&served, Some(&alice), "POST", "/v2/a/blobs/uploads/"),
        202
    );
    assert_eq!(
        status(&served, Some(&alice), "GET", "/v2/a/manifests/1"),
        404
    );
    assert_eq!(served.get("/token").status, 404);
}

#[test]
fn rights_are_per_repository() {
    let root = tempfile::tempdir().unwrap();
    let served = served(root.path(), Some(RIGHTS), false);
    let (alice, bob) = (basic("alice", "wonderland"), basic("bob", "wonderland"));
    let tags = "/v2/NAME/tags/list";
    for (who, method, path, name, wanted) in [
        (None, "GET", tags, "public/a", 404),
        (None, "POST", "/v2/NAME/blobs/uploads/", "public/a", 401),
        (None, "GET", tags, "app", 401),
        (Some(&bob), "GET", tags, "app", 404),
        (Some(&bob), "POST", "/v2/NAME/blobs/uploads/", "app", 403),
        (
            Some(&bob),
            "POST",
            "/v2/NAME/blobs/uploads/",
            "bob/app",
            202,
        ),
        (
            Some(&bob),
            "POST",
            "/v2/NAME/blobs/uploads/",
            "alice/app",
            403,
        ),
        (Some(&bob), "GET", tags, "alice/app", 403),
        (Some(&bob), "DELETE", "/v2/NAME/manifests/1", "app", 403),
        (Some(&bob), "DELETE", "/v2/NAME/manifests/1", "bob/app", 404),
        (Some(&alice), "PUT", "/v2/NAME/manifests/1", "bob/app", 403),
    ] {
        let path = path.replace("NAME", name);
        let who = who.map(String::as_str);
        assert_eq!(
            status(&served, who, method, &path),
            wanted,
            "{who:?} {method} {path}"
        );
    }
    // A blob of a repository that one may not read cannot be mounted from there.
    let digest = sha256(b"secret");
    let path = format!("/v2/alice/a/blobs/uploads/?digest={digest}");
    let pushed = served.ask("POST", &path, &[("Authorization", &alice)], b"secret");
    assert_eq!(pushed.status, 201);
    let path = format!("/v2/bob/a/blobs/uploads/?mount={digest}&from=alice/a");
    assert_eq!(status(&served, Some(&bob), "POST", &path), 202);
    // And the catalog does not tell of it.
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
        "config": {"mediaType": "application/x", "digest": digest, "size": 6},
    });
    let headers = [
        ("Authorization", alice.as_str()),
        ("Content-Type", OCI_MANIFEST),
    ];
    let put = served.ask(
        "PUT",
        "/v2/alice/a/manifests/1",
        &headers,
        manifest.to_string().as_bytes(),
    );
    assert_eq!(put.status, 201, "{}", put.text());
    for (who, wanted) in [(&alice, json!(["alice/a"])), (&bob, json!([]))] {
        let answer = served.ask("GET", "/v2/_catalog", &[("Authorization", who)], b"");
        assert_eq!(answer.json()["repositories"], wanted);
    }
}

#[test]
fn tokens_give_what_rights_allow_of_what_was_asked() {
    let root = tempfile::tempdir().unwrap();
    let served = served(root.path(), Some(RIGHTS), true);
    let bob = basic("bob", "wonderland");
    let refused = served.ask("POST", "/v2/bob/a/blobs/uploads/", &[], b"");
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"hoist-registry\",scope=\"repository:bob/a:pull,push\"",
        served.address
    );
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, challenge.as_str())
    );
    let token = |who: Option<&str>, scope: &str| {
        let headers: Vec<_> = who
            .map(|value| ("Authorization", value))
            .into_iter()
            .collect();
        let answer = served.ask(
            "GET",
            &format!("/token?service=hoist-registry&scope={scope}"),
            &headers,
            b"",
        );
        assert_eq!(answer.status, 200);
        format!("Bearer {}", answer.json()["token"].as_str().unwrap())
    };
    let own = token(Some(&bob), "repository:bob/a:pull,push");
    assert_eq!(
        status(&served, Some(&own), "POST", "/v2/bob/a/blobs/uploads/"),
        202
    );
    assert_eq!(status(&served, Some(&own), "GET", "/v2/"), 200);
    assert_eq!(
        status(&served, Some(&own), "GET", "/v2/app/tags/list"),
        401,
        "for another repository"
    );
    assert_eq!(
        status(&served, Some(&own), "DELETE", "/v2/bob/a/manifests/1"),
        401,
        "not asked for"
    );
    let others = token(Some(&bob), "repository:alice/a:pull,push");
    assert_eq!(
        status(&served, Some(&others), "GET", "/v2/alice/a/tags/list"),
        401
    );
    let anybody = token(None, "repository:public/a:pull%20repository:app:pull");
    assert_eq!(
        status(&served, Some(&anybody), "GET", "/v2/public/a/tags/list"),
        404
    );
    assert_eq!(
        status(&served, Some(&anybody), "GET", "/v2/app/tags/list"),
        401
    );
    // Passwords are taken as they are, too, and wrong ones give no token.
    assert_eq!(
        status(&served, Some(&bob), "POST", "/v2/bob/a/blobs/uploads/"),
        202
    );
    let wrong = basic("bob", "wrong");
    assert_eq!(
        status(
            &served,
            Some(&wrong),
            "GET",
            "/token?scope=repository:app:pull"
        ),
        401
    );
    let form = |password: &str| {
        let body = format!(
            "grant_type=password&service=s&scope=repository:bob/a:push&username=bob&password={password}"
        );
        served.ask("POST", "/token", &[], body.as_bytes())
    };
    let given = form("wonderland").json();
    let own = format!("Bearer {}", given["access_token"].as_str().unwrap());
    assert_eq!(
        status(&served, Some(&own), "POST", "/v2/bob/a/blobs/uploads/"),
        202
    );
    assert_eq!(form("wrong").status, 401);
}

#[test]
fn a_token_outlives_the_server_and_a_user_does_not_outlive_the_file() {
    let root = tempfile::tempdir().unwrap();
    let bob = basic("bob", "wonderland");
    let first = served(root.path(), Some(RIGHTS), true);
    let answer = first.ask(
        "GET",
        "/token?scope=repository:bob/a:push",
        &[("Authorization", &bob)],
        b"",
    );
    let token = format!("Bearer {}", answer.json()["token"].as_str().unwrap());
    drop(first);
    let second = served(root.path(), Some(RIGHTS), true);
    assert_eq!(
        status(&second, Some(&token), "POST", "/v2/bob/a/blobs/uploads/"),
        202
    );
    std::fs::write(root.path().join("users"), "no line of a file of users").unwrap();
    let error = second.server.reload().unwrap_err();
    assert!(
        error.to_string().contains("line 1: expected name:bcrypt"),
        "{error}"
    );
    assert_eq!(
        status(&second, Some(&bob), "GET", "/v2/"),
        200,
        "all stays as it was"
    );
    std::fs::write(root.path().join("users"), USERS.split_once('\n').unwrap().0).unwrap();
    second.server.reload().unwrap();
    assert_eq!(status(&second, Some(&bob), "GET", "/v2/"), 401);
    assert_eq!(
        status(&second, Some(&basic("alice", "wonderland")), "GET", "/v2/"),
        200
    );
}

#[test]
fn tokens_of_somebody_else_hold_by_their_key() {
    let root = tempfile::tempdir().unwrap();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let der = rcgen::PublicKeyData::subject_public_key_info(&pair);
    let key = root.path().join("key.pem");
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(der)
    );
    std::fs::write(&key, pem).unwrap();
    let mut settings = ServerSettings::new(root.path().join("images"));
    settings.access = AccessSettings::Tokens {
        realm: "https://auth.example/token".to_owned(),
        service: "images".to_owned(),
        issuer: "auth.example".to_owned(),
        key,
    };
    let served = Served::with(settings);
    let refused = served.get("/v2/a/tags/list");
    let challenge = "Bearer realm=\"https://auth.example/token\",service=\"images\",scope=\"repository:a:pull\"";
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, challenge)
    );
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let signed = |pair: &rcgen::KeyPair, change: &dyn Fn(&mut Value)| {
        let mut claims = json!({
            "iss": "auth.example", "sub": "carol", "aud": ["images"], "exp": now + 600,
            "access": [{"type": "repository", "name": "a", "actions": ["pull"]}],
        });
        change(&mut claims);
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA"}"#);
        let text = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = rcgen::SigningKey::sign(pair, text.as_bytes()).unwrap();
        format!("Bearer {text}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let good = signed(&pair, &|_| {});
    assert_eq!(status(&served, Some(&good), "GET", "/v2/a/tags/list"), 404);
    assert_eq!(status(&served, Some(&good), "GET", "/v2/b/tags/list"), 401);
    assert_eq!(
        status(&served, Some(&good), "POST", "/v2/a/blobs/uploads/"),
        401
    );
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for bad in [
        signed(&other, &|_| {}),
        signed(&pair, &|claims| claims["iss"] = json!("other.example")),
        signed(&pair, &|claims| claims["aud"] = json!("other")),
        signed(&pair, &|claims| claims["exp"] = json!(now - 600)),
        basic("carol", "anything"),
    ] {
        assert_eq!(status(&served, Some(&bad), "GET", "/v2/a/tags/list"), 401);
    }
}
