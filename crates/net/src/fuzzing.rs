//! What bytes from elsewhere meet here, for fuzzers: they may be refused, and must not panic or hang.

/// A DNS message, as a container's question and as a server's answer.
pub fn dns(bytes: &[u8]) {
    crate::dns::examine(bytes);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
