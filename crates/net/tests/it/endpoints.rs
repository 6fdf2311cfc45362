//! What a container asks of its interface on a network: its name and its settings.

use std::os::fd::AsFd;

use hoist_model::network::{InterfaceSysctl, PlaceRequest, Segment};
use hoist_net::AttachRequest;

use crate::world::*;

fn sysctl(text: &str) -> InterfaceSysctl {
    InterfaceSysctl::parse(text).unwrap()
}

fn read(netns: impl AsFd, path: &str) -> String {
    inside(netns, || {
        let text = std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap();
        text.trim().to_owned()
    })
}

fn asking(places: Vec<PlaceRequest>) -> AttachRequest {
    AttachRequest {
        places,
        ..request(&[])
    }
}

#[test]
fn an_interface_is_called_and_set_as_asked() {
    with_world(|_| {
        let networks = start(|_| {});
        let one = networks.make(segment("one")).unwrap();
        let wish = |of: Option<&Segment>, name: &str| PlaceRequest {
            interface: Some(name.to_owned()),
            sysctls: vec![sysctl("net.ipv4.conf.IFNAME.log_martians=1")],
            ..of.map(place).unwrap_or_default()
        };
        // On the default bridge as on a user's network, one after the other.
        let container = networks
            .attach(&asking(vec![wish(None, "wan"), wish(Some(&one), "lan0")]))
            .unwrap();
        let names: Vec<_> = container
            .record
            .places
            .iter()
            .map(|one| one.interface.as_str())
            .collect();
        assert_eq!(names, ["wan", "lan0"]);
        for name in names {
            assert_eq!(
                read(&container.netns, &format!("ipv4/conf/{name}/log_martians")),
                "1"
            );
        }
        assert_eq!(
            read(&container.netns, "ipv4/conf/default/log_martians"),
            "0"
        );
        let routes = inside(&container.netns, || run("ip route"));
        assert!(
            routes.contains("default via") && routes.contains("dev wan"),
            "{routes}"
        );
        // One more while it runs takes the first name that is free, or the one asked for.
        let two = networks.make(segment("two")).unwrap();
        let id = &container.record.container;
        let connected = networks.connect(id, &place(&two), &[]).unwrap();
        assert_eq!(connected.places[2].interface, "eth0");
        networks.disconnect(id, Some(&two.id)).unwrap();
        let taken = networks
            .connect(id, &wish(Some(&two), "lan0"), &[])
            .unwrap_err();
        assert_eq!(
            taken.to_string(),
            "error renaming interface to \"lan0\": file exists"
        );
        let connected = networks
            .connect(id, &wish(Some(&two), "lan1"), &[])
            .unwrap();
        assert_eq!(connected.places[2].interface, "lan1");
        networks.stop(false).unwrap();
    });
}

#[test]
fn a_setting_that_is_not_there_is_refused_and_leaves_nothing() {
    with_world(|_| {
        // Without a pool no link is made but for what is asked.
        let networks = start(|settings| settings.pool_size = 0);
        let one = networks
            .make(Segment {
                ipv6: true,
                ..segment("one")
            })
            .unwrap();
        let before = run("ip -o link");
        let asked = |text: &str| {
            asking(vec![PlaceRequest {
                sysctls: vec![sysctl(text)],
                ..place(&one)
            }])
        };
        for (text, expected) in [
            (
                "net.ipv4.conf.IFNAME.nosuch=1",
                "/proc/sys/net/ipv4/conf/eth0/nosuch is not a sysctl file",
            ),
            (
                "net.ipv4.conf.IFNAME.forwarding=x",
                "set sysctl ipv4/conf/eth0/forwarding to x",
            ),
        ] {
            let refused = networks.attach(&asked(text)).unwrap_err();
            assert_eq!(refused.to_string(), expected);
        }
        eventually("no link more", || {
            run("ip -o link").lines().count() == before.lines().count()
        });
        // An address that the setting takes away is nobody's.
        let off = networks
            .attach(&asked("net.ipv6.conf.IFNAME.disable_ipv6=1"))
            .unwrap();
        assert!(off.record.places[0].ipv6.is_none());
        let again = join(&networks, &[&one], &[]);
        assert!(again.record.places[0].ipv6.is_some());
        networks.stop(false).unwrap();
    });
}
