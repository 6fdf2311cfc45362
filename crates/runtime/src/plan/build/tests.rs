use std::fs::File;

use hoist_model::ContainerId;

use super::*;
use crate::capabilities;
use crate::spec::{MountEntry, Namespaces, Remapped};
use hoist_cgroup::CgroupHandle;

fn fd() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn process() -> Process {
    Process {
        arguments: vec!["true".to_owned()],
        environment: Vec::new(),
        working_directory: "/".to_owned(),
        uid: 5,
        gid: 6,
        groups: vec![6],
        capabilities: capabilities::for_process(capabilities::available(), 5),
        no_new_privileges: false,
        apparmor: None,
        seccomp: None,
        rlimits: vec![(7, 1, 2)],
        oom_score_adj: Some(-5),
        terminal: None,
        open_stdin: false,
        stdin_once: false,
    }
}

fn container(remapped: Option<Remapped>) -> LaunchSpec {
    let new = |target: &str, kind: &str| MountEntry {
        target: target.to_owned(),
        source: MountFrom::New {
            kind: kind.to_owned(),
            options: Vec::new(),
        },
        attributes: 0,
        recursive: false,
        propagation: 0,
    };
    LaunchSpec {
        id: ContainerId::from_bytes(&[1; 32]),
        rootfs: fd(),
        readonly_rootfs: false,
        hostname: "box".to_owned(),
        domainname: String::new(),
        namespaces: Namespaces {
            pid: NamespaceSource::Join(fd()),
            network: NamespaceSource::Join(fd()),
            ipc: NamespaceSource::New,
            uts: NamespaceSource::New,
            cgroup: NamespaceSource::New,
        },
        mounts: vec![new("/proc", "proc"), new("/dev", "tmpfs")],
        devices: Vec::new(),
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        sysctls: Vec::new(),
        cgroup: CgroupHandle {
            attach: vec![fd()],
            unified: Some(fd()),
        },
        process: process(),
        init: false,
        log: None,
        attached: Vec::new(),
        kept: Vec::new(),
        remapped,
    }
}

fn words(plan: &Plan) -> Vec<String> {
    let words = plan.steps.iter().map(ToString::to_string);
    words
        .filter(|word| !word.starts_with("make link"))
        .collect()
}

/// What takes privileges of the host stands before the user namespace is entered, and nothing of it after; no node is made in
/// there; a whole procfs and sysfs lie under the root.
#[test]
fn a_remapped_container_gives_up_the_host_before_it_has_anything() {
    let (plan, _) = launch(container(Some(Remapped {
        namespace: fd(),
        visible: vec![fd(), fd()],
        streams: (100_005, 100_000),
    })));
    let expected = [
        "join cgroup",
        "set resource limit 7",
        "set oom_score_adj -5",
        "go on in the user namespace",
        "enter network namespace",
        "make cgroup namespace",
        "place the root file system",
        "place the root file system",
        "place the root file system",
        "mount proc on /proc",
        "mount tmpfs on /dev",
        "set host name box",
        "place the standard streams",
        "make file /.dockerenv",
        "pivot into the root file system",
        "chdir to cwd \"/\"",
        "become user 5:6",
    ];
    assert_eq!(words(&plan), expected);
    // The clone itself makes nothing: what it made would be the host's.
    assert_eq!((plan.namespaces, plan.pid_namespace), (0, None));
    let descends = plan.steps.iter().find_map(|step| match step {
        Step::Descend {
            pid, namespaces, ..
        } => Some((pid.is_some(), *namespaces)),
        _ => None,
    });
    let made = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    assert_eq!(descends, Some((true, u64::from(made.cast_unsigned()))));
    assert_eq!(plan.streams, Some((100_005, 100_000)));
}

/// Nothing is different for a container that is not remapped.
#[test]
fn a_container_of_the_hosts_users_takes_no_step_for_others() {
    let (plan, _) = launch(container(None));
    let told = words(&plan);
    assert!(!plan.descends() && plan.streams.is_none());
    assert!(told.iter().any(|word| word == "make device /dev/null"));
    let place = |wanted: &str| {
        told.iter()
            .position(|word| word.starts_with(wanted))
            .unwrap()
    };
    assert!(place("pivot") < place("set resource limit"));
    assert!(plan.pid_namespace.is_some() && plan.namespaces != 0);
    let text = serde_json::to_string(&plan).unwrap();
    assert!(!text.contains("\"streams\""), "{text}");
}

#[test]
fn a_further_process_becomes_root_inside_before_it_opens_anything() {
    let exec_of = |remapped| {
        let spec = ExecSpec {
            id: "01".repeat(32).parse().unwrap(),
            pidfd: fd(),
            cgroup: CgroupHandle {
                attach: Vec::new(),
                unified: None,
            },
            process: process(),
            attached: None,
            remapped,
        };
        words(&exec(spec).0)
    };
    let remapped = exec_of(Some((100_005, 100_000)));
    let expected = [
        "set resource limit 7",
        "enter the container's namespace",
        "become root of the user namespace",
        "open the root",
        "place the standard streams",
        "chdir to cwd \"/\"",
        "become user 5:6",
    ];
    assert_eq!(remapped, expected);
    let plain = exec_of(None);
    assert!(!plain.iter().any(|word| word.contains("user namespace")));
}
