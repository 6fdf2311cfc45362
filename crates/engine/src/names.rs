//! Made-up names for containers nobody named: an adjective and somebody who advanced the sciences.

const ADJECTIVES: [&str; 48] = [
    "amber", "apt", "balmy", "blithe", "brisk", "calm", "candid", "clear", "crisp", "deft",
    "eager", "earnest", "fair", "fleet", "fond", "frank", "gentle", "glad", "golden", "hale",
    "hardy", "jolly", "keen", "kind", "light", "lively", "loyal", "lucid", "mellow", "merry",
    "neat", "nimble", "patient", "plucky", "proud", "quick", "quiet", "ready", "serene", "sharp",
    "snug", "spry", "steady", "sunny", "swift", "tidy", "upbeat", "witty",
];

const PEOPLE: [&str; 48] = [
    "abel",
    "agnesi",
    "ampere",
    "avicenna",
    "banach",
    "bernoulli",
    "bose",
    "cauchy",
    "cavendish",
    "cori",
    "dirac",
    "emmy",
    "erdos",
    "euler",
    "faraday",
    "fourier",
    "franklin",
    "galois",
    "gauss",
    "germain",
    "gibbs",
    "hamming",
    "hilbert",
    "huygens",
    "hypatia",
    "joule",
    "kelvin",
    "kepler",
    "khayyam",
    "lagrange",
    "lamarr",
    "laplace",
    "leavitt",
    "lovelace",
    "maxwell",
    "meitner",
    "mendel",
    "noether",
    "pascal",
    "payne",
    "ramanujan",
    "riemann",
    "shannon",
    "somerville",
    "tharp",
    "turing",
    "volta",
    "wu",
];

/// A name made of random numbers; with `retry` above 0 a digit is added, as Docker does after a clash.
pub(crate) fn made_up(random: u64, retry: u32) -> String {
    let pick = |list: &[&'static str; 48], shift: u32| {
        list[usize::try_from((random >> shift) % 48).unwrap_or(0)]
    };
    let name = format!("{}_{}", pick(&ADJECTIVES, 0), pick(&PEOPLE, 32));
    if retry == 0 {
        name
    } else {
        format!("{name}{}", (random >> 56) % 10 + u64::from(retry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_vary() {
        assert!(hoist_model::container::is_container_name(&made_up(0, 0)));
        assert_ne!(made_up(0, 0), made_up(1, 0));
        assert_ne!(made_up(0, 0), made_up(0, 1));
    }
}
