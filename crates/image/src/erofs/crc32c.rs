//! CRC-32C (Castagnoli), as EROFS seals its superblock: no final inversion.

/// Continues a checksum over some bytes, bit by bit: it covers 512 bytes a layer.
pub(super) fn update(mut sum: u32, bytes: &[u8]) -> u32 {
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0x82F6_3B78 & (sum & 1).wrapping_neg());
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_is_the_catalogue_s() {
        assert_eq!(!super::update(!0, b"123456789"), 0xE306_9283);
    }
}
