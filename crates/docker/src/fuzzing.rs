//! What bytes from elsewhere meet here, for fuzzers: they may be refused, and must not panic or hang.

use hoist_model::ImageReference;

use crate::LimitSupport;
use crate::query::Query;
use crate::version::ApiVersion;
use crate::wire::create_body::CreateBody;
use crate::wire::detach_keys;
use crate::wire::filters::Filters;
use crate::wire::resources::Capacity;
use crate::wire::to_spec::{Context, spec_from_wire};

/// The body of a create, in the newest API and the oldest.
pub fn create_body(bytes: &[u8]) {
    for version in [ApiVersion::NEWEST, ApiVersion::OLDEST] {
        let Ok(body) = serde_json::from_slice::<CreateBody>(bytes) else {
            return;
        };
        let context = Context {
            version,
            capacity: Capacity {
                cpus: 2,
                limits: LimitSupport::ALL,
            },
            platform: None,
            log: hoist_model::container::LogConfig::default(),
            defaults: crate::ContainerDefaults::default(),
            private_cgroups: true,
        };
        let _ = spec_from_wire(body, &context);
    }
}

/// A query with filters.
pub fn filters(bytes: &[u8]) {
    const KNOWN: [&str; 6] = ["name", "id", "label", "status", "since", "dangling"];
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for text in [text.to_owned(), format!("filters={encoded}")] {
        let query = Query::parse(Some(&text));
        let _ = (query.number("limit"), query.boolean("all"));
        if let Ok(filters) = Filters::from_query(&query, &KNOWN) {
            let _ = filters.matches("name", &["one", "/one"]);
            let _ = (
                filters.boolean("dangling"),
                filters.check("status", &["running"]),
            );
            let _ = filters.labels(&[("a".to_owned(), "b".to_owned())].into());
        }
    }
}

/// The name of an image: what is accepted reads the same when it is written again.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(reference) = text.parse::<ImageReference>() {
        let written = reference.to_string();
        assert_eq!(written.parse().as_ref(), Ok(&reference), "{written}");
        let familiar = reference.familiar();
        assert_eq!(familiar.parse().as_ref(), Ok(&reference), "{familiar}");
    }
}

/// Keys to detach with, and input they are looked for in: where it is cut changes nothing.
pub fn detach(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(keys), Some(input)) = (parts.next(), parts.next()) else {
        return;
    };
    let Ok(Ok(keys)) = std::str::from_utf8(keys).map(detach_keys::parse) else {
        return;
    };
    let mut whole = Vec::new();
    let found = detach_keys::Scanner::new(keys.clone()).scan(input, &mut whole);
    let (mut cut, mut detach) = (Vec::new(), detach_keys::Scanner::new(keys));
    let found_cut = input.chunks(1).any(|byte| detach.scan(byte, &mut cut));
    assert_eq!((found, &whole), (found_cut, &cut));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LASTING: Duration = Duration::from_secs(1);

    #[test]
    fn bodies_of_strangers_do_no_harm() {
        let seeds: [&[u8]; 2] = [
            br#"{"Image":"a","Cmd":["x"],"Entrypoint":"y","Env":["A=b","C"],"Labels":{"l":"m"},"ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},"StopSignal":"SIGTERM","StopTimeout":3,"Healthcheck":{"Test":["CMD","t"],"Interval":1000000000,"Retries":3},"HostConfig":{"Binds":["/a:/b:ro,rshared","n:/c"],"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8000-8010"}]},"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},"Memory":6000000,"NanoCpus":5,"CapAdd":["ALL"],"SecurityOpt":["no-new-privileges"],"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}],"Tmpfs":{"/t":"size=1m"},"Mounts":[{"Type":"volume","Source":"v","Target":"/m","VolumeOptions":{"Subpath":"s"}}],"Devices":[{"PathOnHost":"/dev/null","PathInContainer":"/dev/x","CgroupPermissions":"rwm"}],"Sysctls":{"net.ipv4.ip_forward":"1"},"LogConfig":{"Type":"json-file","Config":{"max-size":"10m"}},"ExtraHosts":["a:1.2.3.4"],"PidMode":"host","IpcMode":"shareable","DeviceCgroupRules":["c 1:3 rwm"]},"NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"IPv4Address":"1.2.3.4"}}}}}"#,
            br#"{"Image":"a","HostConfig":{"NetworkMode":"container:x","CpusetCpus":"0-3,7","BlkioWeight":10,"ShmSize":67108864,"Init":true,"GroupAdd":["1"],"Dns":["1.1.1.1"]}}"#,
        ];
        hoist_testkit::mutate(&seeds, LASTING * 2, create_body);
    }

    #[test]
    fn filters_of_strangers_do_no_harm() {
        let seeds: [&[u8]; 3] = [
            br#"{"name":["^/?one.*$","(a{100}){100}"],"label":{"a=b":true,"c":false}}"#,
            br#"{"status":["running"],"dangling":["true"],"id":["[a-f0-9]+"]}"#,
            b"all=1&limit=-5&filters=%7B%22id%22%3A%5B%22x%22%5D%7D",
        ];
        hoist_testkit::mutate(&seeds, LASTING, filters);
    }

    #[test]
    fn references_of_strangers_do_no_harm() {
        let digest = format!(
            "registry.example:5000/a/b_c.d:tag@sha256:{}",
            "a1".repeat(32)
        );
        let seeds: [&[u8]; 4] = [
            b"busybox",
            b"docker.io/library/x:1",
            digest.as_bytes(),
            b"[::1]:80/x",
        ];
        hoist_testkit::mutate(&seeds, LASTING, reference);
    }

    #[test]
    fn input_of_strangers_detaches_as_it_would_whole() {
        let seeds: [&[u8]; 2] = [b"ctrl-p,ctrl-q\nabc\x10\x10\x11def", b"a,a,b\naaab"];
        hoist_testkit::mutate(&seeds, LASTING, detach);
    }
}
