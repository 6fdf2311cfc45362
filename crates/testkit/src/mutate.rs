//! Inputs nobody would write, made of some that somebody would: a fuzzer without a compiler's help, for every test run.
//! Those under `fuzz/` are guided by coverage and find more.

use std::time::{Duration, Instant};

/// The longest input made.
const LONGEST: usize = 1 << 16;
/// The longest that one input may take; quadratic behaviour shows on the long ones.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gives `entry` every seed, and for this long mutations of them. The sequence is the same in every run.
///
/// # Panics
/// When `entry` does, or takes too long; the message holds the input.
pub fn mutate(seeds: &[&[u8]], lasting: Duration, mut entry: impl FnMut(&[u8])) {
    let end = Instant::now() + lasting;
    let mut chance = Chance(0x0005_eed0_f1fe);
    let mut corpus: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    corpus.push(Vec::new());
    for input in &corpus {
        run(&mut entry, input);
    }
    while Instant::now() < end {
        let place = chance.below(corpus.len());
        let mut input = corpus[place].clone();
        for _ in 0..=chance.below(4) {
            let other = &corpus[chance.below(corpus.len())];
            change(&mut chance, &mut input, other);
        }
        input.truncate(LONGEST);
        run(&mut entry, &input);
        // Some go on from where others arrived.
        if chance.below(16) == 0 {
            if corpus.len() < 256 {
                corpus.push(input);
            } else {
                let place = seeds.len() + chance.below(256 - seeds.len());
                corpus[place] = input;
            }
        }
    }
}

fn run(entry: &mut impl FnMut(&[u8]), input: &[u8]) {
    let began = Instant::now();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| entry(input)));
    let shown = || {
        let shown = &input[..input.len().min(2000)];
        format!("{} bytes: {}", input.len(), shown.escape_ascii())
    };
    if let Err(panic) = caught {
        eprintln!("input of {}", shown());
        std::panic::resume_unwind(panic);
    }
    let took = began.elapsed();
    assert!(took < PATIENCE, "{took:?} for {}", shown());
}

fn change(chance: &mut Chance, input: &mut Vec<u8>, other: &[u8]) {
    const BYTES: &[u8] = b"\0\x01\x7f\x80\xff/.:,\"{}[]-0 9\n\r\\";
    let at = chance.below(input.len() + 1);
    let until = at + chance.below((input.len() - at).min(600) + 1);
    match chance.below(8) {
        0 if at < input.len() => input[at] ^= 1 << chance.below(8),
        1 if at < input.len() => input[at] = BYTES[chance.below(BYTES.len())],
        2 => input.insert(at, BYTES[chance.below(BYTES.len())]),
        3 => drop(input.drain(at..until)),
        4 => {
            let part = input[at..until].to_vec();
            let most = if chance.below(20) == 0 { 200 } else { 3 };
            let times = 1 + chance.below(most);
            let repeated = part.repeat(times);
            input.splice(at..at, repeated);
        }
        5 if !other.is_empty() => {
            let from = chance.below(other.len());
            let to = from + chance.below((other.len() - from).min(600) + 1);
            input.splice(at..until, other[from..to].iter().copied());
        }
        6 => {
            let number = [0, -1, 1 << 31, i64::MAX, i64::MIN, 65_536][chance.below(6)];
            input.splice(at..until, number.to_string().into_bytes());
        }
        _ => input.truncate(at),
    }
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let number = (mixed ^ (mixed >> 31)) % bound.max(1) as u64;
        usize::try_from(number).expect("less than a usize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_different_inputs_are_made() {
        let mut seen = std::collections::HashSet::new();
        mutate(&[b"{\"a\": 1}"], Duration::from_millis(100), |input| {
            seen.insert(input.to_vec());
        });
        assert!(seen.len() > 200, "{}", seen.len());
    }
}
