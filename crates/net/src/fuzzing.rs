//! What bytes from elsewhere meet here, for fuzzers: they may be refused, and must not panic or hang.

use crate::{nft, rtnl};

/// A DNS message, as a container's question and as a server's answer.
pub fn dns(bytes: &[u8]) {
    crate::dns::examine(bytes);
}

/// A datagram of the kernel's, whose messages tell of whatever there is.
pub fn netlink(bytes: &[u8]) {
    for reply in hoist_sys::netlink::replies(bytes) {
        let _ = (rtnl::parse_link(&reply), rtnl::deleted_link(&reply));
        let _ = (rtnl::parse_address(&reply), rtnl::parse_route(&reply));
        nft::examine(&reply);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hoist_sys::netlink::{Attributes, Batch};

    use super::*;

    #[test]
    fn dns_messages_of_strangers_do_no_harm() {
        let seeds: [&[u8]; 4] = [
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01",
            // With EDNS, a client subnet in it.
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x03web\x03lan\0\0\x1c\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\x0b\0\x08\0\x07\0\x01\x18\0\xc0\0\x02",
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x012\x011\x010\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01",
            // An answer whose name is the question's.
            b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x03web\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x02",
        ];
        hoist_testkit::mutate(&seeds, Duration::from_secs(1), dns);
    }

    #[test]
    fn odd_messages_of_the_kernel_do_no_harm() {
        // What a message is said to be, its fixed header, and its attributes.
        let message = |kind: u16, header: &[u8], attributes: &dyn Fn(&mut Attributes<'_>)| {
            let mut batch = Batch::new();
            batch.message("seed", kind, 0, header, attributes);
            batch.as_bytes().to_vec()
        };
        let link = message(16, &[0; 16], &|a| {
            a.put_text(3, "hoist0").put(1, &[2, 0, 0, 0, 0, 1]);
            a.nest(18, |a| {
                a.put_text(1, "bridge");
            });
        });
        let address = message(20, &[2, 24, 0, 0, 7, 0, 0, 0], &|a| {
            a.put(1, &[10, 0, 0, 1]).put(2, &[10, 0, 0, 2]);
        });
        let route = message(24, &[2, 16, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0], &|a| {
            a.put(1, &[172, 18, 0, 0]).put_u32(4, 7);
        });
        let chain = message(0x0a03, &[2, 0, 0, 0], &|a| {
            a.put_text(1, "filter").put_text(3, "FORWARD");
            a.nest(4, |a| {
                a.put_be32(1, 2).put_be32(2, 0);
            });
            a.put_be32(5, 0).put_text(7, "filter");
        });
        let rule = message(0x0a06, &[2, 0, 0, 0], &|a| {
            a.put_text(1, "filter").put_text(2, "FORWARD");
            a.put(3, &[0, 0, 0, 0, 0, 0, 0, 9]).nest(4, |a| {
                a.nest(1, |a| {
                    a.put_text(1, "immediate").nest(2, |a| {
                        a.put_be32(1, 0).nest(2, |a| {
                            a.nest(2, |a| {
                                a.put_be32(1, 0);
                            });
                        });
                    });
                });
            });
            a.put(7, b"\x00\x05told\x00");
        });
        let elements = message(0x0a0c, &[1, 0, 0, 0], &|a| {
            a.put_text(1, "hoist").put_text(2, "published4_any");
            a.nest(3, |a| {
                a.nest(1, |a| {
                    a.nest(1, |a| {
                        a.put(1, &[6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
                    });
                    a.nest(2, |a| {
                        a.put(1, &[172, 18, 0, 2, 0, 80, 0, 0]);
                    });
                });
            });
        });
        let refusal = message(2, &[0xea, 0xff, 0xff, 0xff], &|a| {
            a.put(16, &[0; 12]).put_text(1, "a sentence");
        });
        let all = [&link[..], &chain, &rule, &elements, &refusal].concat();
        for seed in [&link, &address, &route, &chain, &rule, &elements] {
            assert_eq!(hoist_sys::netlink::replies(seed).len(), 1);
        }
        assert_eq!(hoist_sys::netlink::replies(&all).len(), 5);
        let seeds = [&all[..], &address, &route, &rule, &elements];
        hoist_testkit::mutate(&seeds, Duration::from_secs(1), netlink);
    }
}
