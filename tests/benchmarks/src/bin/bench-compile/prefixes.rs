//! A list of random prefixes, the same one every time.

use std::{
    fs::File,
    io::{BufWriter, Write},
    net::Ipv4Addr,
    path::Path,
};

use anyhow::Context;

/// Writes `lines` prefixes, one a line, in no order: mostly single addresses and /24s, as blocklists have them.
pub(crate) fn write(path: &Path, lines: u32) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut out = BufWriter::new(file);
    let mut random = SplitMix(0x6e69_6367_6174_6521);
    for _ in 0..lines {
        let (address, length) = random.prefix();
        if length == 32 { writeln!(out, "{address}") } else { writeln!(out, "{address}/{length}") }?;
    }
    out.flush().with_context(|| format!("cannot write {}", path.display()))
}

/// The SplitMix64 generator.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn prefix(&mut self) -> (Ipv4Addr, u32) {
        let bits = self.next();
        let length = match bits % 100 {
            0..65 => 32,
            65..85 => 24,
            85..93 => 25 + (bits >> 8) as u32 % 7,
            _ => 16 + (bits >> 8) as u32 % 8,
        };
        // Unicast only: 1.0.0.0 to 223.255.255.255.
        let address = 0x0100_0000 + (self.next() % 0xdf00_0000) as u32;
        (Ipv4Addr::from_bits(address & (u32::MAX << (32 - length))), length)
    }
}

#[cfg(test)]
mod tests {
    use super::SplitMix;

    #[test]
    fn prefixes_are_masked_unicast_and_the_same_every_time() {
        let (mut one, mut two) = (SplitMix(7), SplitMix(7));
        for _ in 0..10_000 {
            let (address, length) = one.prefix();
            assert_eq!((address, length), two.prefix());
            assert!((16..=32).contains(&length));
            assert_eq!(u64::from(address.to_bits()) << length & 0xffff_ffff, 0, "{address}/{length}");
            assert!((1..=223).contains(&address.octets()[0]), "{address}");
        }
    }
}
