//! Many engines that start on one machine at the same moment.

use std::collections::BTreeSet;

use hoist_net::Instance;
use hoist_sys::netns;

use crate::world::*;

#[test]
fn engines_that_choose_at_the_same_moment_choose_different_subnets() {
    with_world(|world| {
        const ENGINES: u8 = 5;
        let chosen: Vec<String> = std::thread::scope(|scope| {
            let engines: Vec<_> = (1..=ENGINES)
                .map(|number| {
                    scope.spawn(move || {
                        netns::enter(&world.host).unwrap();
                        let networks = start(|settings| {
                            settings.instance = Instance::of([0xc1, 0xa1, number]);
                            settings.pool_size = 0;
                        });
                        let own = networks.bridge().unwrap().subnet.to_string();
                        let made = (0..4).map(|at| {
                            let made = networks.make(segment(&format!("n{at}"))).unwrap();
                            made.subnets[0].subnet.to_string()
                        });
                        let all: Vec<String> = std::iter::once(own).chain(made).collect();
                        (networks, all)
                    })
                })
                .collect();
            let engines: Vec<_> = engines.into_iter().map(|one| one.join().unwrap()).collect();
            let all = engines.iter().flat_map(|(_, all)| all.clone()).collect();
            for (networks, _) in engines {
                networks.stop(false).unwrap();
            }
            all
        });
        let distinct: BTreeSet<_> = chosen.iter().collect();
        assert_eq!(distinct.len(), 5 * usize::from(ENGINES), "{chosen:?}");
    });
}
