//! Images under the names that the suites pull, made from Debian's static busybox: as much of the originals as the
//! tests look at.

use std::path::Path;

use hoist_testkit::{Compression, ImageBuilder, LocalRegistry, TarBuilder};
use serde_json::json;

/// Users of alpine's that tests run programs as.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\npostgres:x:70:70::/var/opt:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";

/// What hello-world prints, as far as tests read it.
const HELLO: &str = "#!/bin/sh\necho\necho 'Hello from Docker!'\necho 'This message shows that your installation appears to be working correctly.'\n";

/// testcontainers/helloworld: two ports that answer `/ping`, and what it logs.
const HELLO_WORLD_SERVER: &str = r#"#!/bin/sh
trap 'exit 0' TERM INT
{
    echo "DELAY_START_MSEC: ${DELAY_START_MSEC:-0}"
    for port in 8080 8081; do
        echo "Sleeping for 0 ms"
        echo "Starting server on port $port"
        httpd -p $port -h /www
    done
    echo "Ready, listening on 8080 and 8081"
} >&2
while :; do sleep 3600 & wait $!; done
"#;

/// The web server of testcontainers-rs' own test images, as its tests find it when they do not build it.
const WEB_SERVER: &str = "#!/bin/sh\ntrap 'exit 0' TERM\nhttpd -p 80 -h /www\necho 'server will be listening to 80' >&2\necho 'server is ready'\nwhile :; do sleep 3600 & wait $!; done\n";

/// OpenWrt's uhttpd, by its command line.
const UHTTPD: &str = "#!/bin/sh\nexec /bin/httpd \"$@\"\n";
const UHTTPD_CONFIG: &str =
    "\nconfig uhttpd main\n\tlist listen_http 0.0.0.0:80\n\toption home /www\n";

/// Puts every stand-in into a registry; official images below `official` (`library/` on Docker Hub). Programs that suites
/// have built for theirs are in `cache`.
pub(crate) fn fill(registry: &LocalRegistry, official: &str, cache: &Path) {
    let busybox = ImageBuilder::busybox()
        .expect("checked before")
        .compression(Compression::Gzip);
    let official = |name: &str| format!("{official}{name}");
    for tag in ["latest", "1"] {
        registry.put(&official("busybox"), tag, &busybox);
    }
    let alpine = busybox.clone().config("Cmd", json!(["/bin/sh"])).layer(
        TarBuilder::new()
            .file("etc/alpine-release", 0o644, "3.20.0\n")
            .file("etc/passwd", 0o644, PASSWD)
            .directory("var/opt")
            .finish(),
    );
    for tag in ["latest", "3.20", "3.10"] {
        registry.put(&official("alpine"), tag, &alpine);
    }
    let ubuntu = busybox.clone().layer(
        TarBuilder::new()
            .file("etc/os-release", 0o644, "ID=ubuntu\nVERSION_ID=\"24.04\"\n")
            .finish(),
    );
    registry.put(&official("ubuntu"), "24.04", &ubuntu);
    let hello = busybox
        .clone()
        .config("Cmd", json!(["/hello"]))
        .layer(TarBuilder::new().file("hello", 0o755, HELLO).finish());
    registry.put(&official("hello-world"), "latest", &hello);
    put_for_two_platforms(registry, &official("hello-world"), "linux", &hello);
    let server = busybox
        .clone()
        .config("Cmd", json!(["/helloworld"]))
        .config("ExposedPorts", json!({"8080/tcp": {}, "8081/tcp": {}}))
        .layer(
            TarBuilder::new()
                .file("helloworld", 0o755, HELLO_WORLD_SERVER)
                .directory("opt")
                .directory("www")
                .file("www/ping", 0o644, "PONG")
                .file("www/index.html", 0o644, "Hello world\n")
                .finish(),
        );
    for tag in ["1.1.0", "1.2.0", "1.3.0"] {
        registry.put("testcontainers/helloworld", tag, &server);
    }
    let web = busybox
        .clone()
        .config("Cmd", json!(["/server"]))
        .config("ExposedPorts", json!({"80/tcp": {}}))
        .layer(
            TarBuilder::new()
                .file("server", 0o755, WEB_SERVER)
                .directory("www")
                .file("www/index.html", 0o644, "foo")
                .finish(),
        );
    registry.put(&official("simple_web_server"), "latest", &web);
    if let Ok(program) = std::fs::read(cache.join("testcontainers/ryuk")) {
        let ryuk = ImageBuilder::new()
            .compression(Compression::Gzip)
            .config("Cmd", json!(["/bin/ryuk"]))
            .config("ExposedPorts", json!({"8080/tcp": {}}))
            .layer(
                TarBuilder::new()
                    .directory("bin")
                    .file("bin/ryuk", 0o755, program)
                    .finish(),
            );
        registry.put("testcontainers/ryuk", "0.8.1", &ryuk);
    }
    let uhttpd = busybox
        .config(
            "Cmd",
            json!(["/usr/sbin/run_uhttpd", "-f", "-p", "80", "-h", "/www"]),
        )
        .layer(
            TarBuilder::new()
                .directory("usr/sbin")
                .file("usr/sbin/run_uhttpd", 0o755, UHTTPD)
                .directory("etc/config")
                .file("etc/config/uhttpd", 0o644, UHTTPD_CONFIG)
                .directory("www")
                .file("www/index.html", 0o644, "uhttpd\n")
                .finish(),
        );
    registry.put("fussybeaver/uhttpd", "latest", &uhttpd);
}

/// An index of the image for amd64 and for 386, which runs on the same machines.
fn put_for_two_platforms(
    registry: &LocalRegistry,
    repository: &str,
    tag: &str,
    image: &ImageBuilder,
) {
    let manifests: Vec<_> = ["amd64", "386"]
        .iter()
        .map(|architecture| {
            let image = image.clone().document("architecture", json!(architecture));
            let digest = registry.put(repository, architecture, &image);
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest,
                "size": image.blobs().manifest.len(),
                "platform": {"architecture": architecture, "os": "linux"},
            })
        })
        .collect();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    registry.put_manifest(repository, tag, index.to_string().as_bytes());
}
