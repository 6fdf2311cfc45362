//! Changing the limits and the restart policy of a container that exists (API `ContainerUpdate`).

use hoist_model::ContainerId;
use hoist_model::container::{ContainerSpec, IoThrottle, Resources, RestartPolicy};
use hoist_store::Class;

use super::actor::Actor;
use super::events::container_event;
use super::message::Message;
use super::{Containers, UpdateRequest};
use crate::error::ContainerError;

/// What an update comes to.
#[derive(Debug, PartialEq)]
struct Update {
    /// The limits from now on.
    resources: Resources,
    /// The policy from now on.
    restart_policy: RestartPolicy,
    /// What the control groups of a running container are told.
    writes: Resources,
}

/// Joins a request with what is there, with Docker's conflicts (moby `daemon/container/container_unix.go`,
/// `UpdateContainer`).
fn plan_update(spec: &ContainerSpec, request: &UpdateRequest) -> Result<Update, &'static str> {
    let (old, wanted) = (&spec.resources, &request.limits);
    if wanted.nano_cpus > 0 && old.cpu_period > 0 {
        return Err(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        );
    }
    if wanted.nano_cpus > 0 && old.cpu_quota > 0 {
        return Err(
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        );
    }
    if wanted.cpu_period > 0 && old.nano_cpus > 0 {
        return Err(
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        );
    }
    if wanted.cpu_quota > 0 && old.nano_cpus > 0 {
        return Err(
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        );
    }
    let old_swap = match (old.memory_swap, old.memory) {
        (0, memory) if memory > 0 => memory.saturating_mul(2),
        (swap, _) => swap,
    };
    if wanted.memory_swap == 0 && old_swap > 0 && wanted.memory > old_swap {
        return Err(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        );
    }
    let restart_policy = request.restart_policy.unwrap_or(spec.restart_policy);
    if request
        .restart_policy
        .is_some_and(|policy| policy != RestartPolicy::No)
        && spec.auto_remove
    {
        return Err(
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        );
    }
    let number = |new: i64, old: i64| if new == 0 { old } else { new };
    let text = |new: &String, old: &String| if new.is_empty() { old } else { new }.clone();
    let mut writes = wanted.clone();
    let mut resources = Resources {
        memory: number(wanted.memory, old.memory),
        memory_swap: number(wanted.memory_swap, old.memory_swap),
        memory_reservation: number(wanted.memory_reservation, old.memory_reservation),
        nano_cpus: number(wanted.nano_cpus, old.nano_cpus),
        cpu_shares: number(wanted.cpu_shares, old.cpu_shares),
        cpu_period: number(wanted.cpu_period, old.cpu_period),
        cpu_quota: number(wanted.cpu_quota, old.cpu_quota),
        cpuset_cpus: text(&wanted.cpuset_cpus, &old.cpuset_cpus),
        cpuset_mems: text(&wanted.cpuset_mems, &old.cpuset_mems),
        pids_limit: wanted.pids_limit.or(old.pids_limit),
        ..old.clone()
    };
    if wanted.blkio_weight != 0 {
        resources.blkio_weight = wanted.blkio_weight;
    }
    for weight in &wanted.io_weights {
        resources.io_weights.retain(|old| old.path != weight.path);
        resources.io_weights.push(weight.clone());
    }
    for throttle in &wanted.io_throttles {
        let other = |old: &IoThrottle| (&old.path, old.kind) != (&throttle.path, throttle.kind);
        resources.io_throttles.retain(other);
        // A rate of nothing lifts the limit.
        if throttle.rate > 0 {
            resources.io_throttles.push(throttle.clone());
        }
    }
    if wanted.memory != 0 && wanted.memory_swap == 0 {
        // The swap limit stays where it is; it does not follow the memory.
        resources.memory_swap = old_swap;
        writes.memory_swap = old_swap;
    }
    if wanted.memory == 0
        && wanted.memory_swap != 0
        && resources.memory > resources.memory_swap
        && resources.memory_swap > 0
    {
        return Err("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    Ok(Update {
        resources,
        restart_policy,
        writes,
    })
}

impl Containers {
    /// Changes limits and restart policy, at once if it runs.
    pub async fn update(
        &self,
        id: &ContainerId,
        request: UpdateRequest,
    ) -> Result<(), ContainerError> {
        self.ask(id, |reply| Message::Update {
            request: Box::new(request),
            reply,
        })
        .await
    }
}

impl Actor {
    pub(super) async fn update(&mut self, request: &UpdateRequest) -> Result<(), ContainerError> {
        let id = self.record.id.as_str().to_owned();
        let update = plan_update(&self.record.spec, request).map_err(|refusal| {
            ContainerError::Conflict(format!("Cannot update container {id}: {refusal}"))
        })?;
        if self.life.state.running().is_some() {
            let runtime = self.containers.inner.parts.runtime.clone();
            let (key, writes) = (self.record.id.clone(), update.writes);
            let written = tokio::task::spawn_blocking(move || runtime.update(&key, &writes)).await;
            let written = written.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            written.map_err(|source| ContainerError::Io {
                context: format!("Cannot update container {id}"),
                source,
            })?;
        }
        self.life.policy = update.restart_policy;
        self.change(|record| {
            record.spec.resources = update.resources;
            record.spec.restart_policy = update.restart_policy;
        });
        self.tell(container_event("update", &self.record, &[]));
        self.write_all(Class::Disk).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::testing::spec;

    fn limits(change: impl FnOnce(&mut Resources)) -> Resources {
        let mut limits = Resources::default();
        change(&mut limits);
        limits
    }

    fn plan(old: Resources, wanted: Resources) -> Result<Update, &'static str> {
        let spec = ContainerSpec {
            resources: old,
            ..spec()
        };
        let request = UpdateRequest {
            limits: wanted,
            restart_policy: None,
        };
        plan_update(&spec, &request)
    }

    #[test]
    fn what_is_not_named_stays() {
        let old = limits(|l| {
            l.cpu_shares = 512;
            l.cpuset_cpus = "0".to_owned();
            l.pids_limit = Some(7);
        });
        let update = plan(old, limits(|l| l.pids_limit = Some(9))).unwrap();
        assert_eq!(update.resources.cpu_shares, 512);
        assert_eq!(update.resources.cpuset_cpus, "0");
        assert_eq!(update.resources.pids_limit, Some(9));
        assert_eq!(update.writes, limits(|l| l.pids_limit = Some(9)));
    }

    #[test]
    fn the_swap_limit_does_not_follow_the_memory() {
        let old = || limits(|l| l.memory = 64 << 20);
        let update = plan(old(), limits(|l| l.memory = 100 << 20)).unwrap();
        assert_eq!(update.writes.memory_swap, 128 << 20);
        assert_eq!(update.resources.memory_swap, 128 << 20);
        let refused = plan(old(), limits(|l| l.memory = 200 << 20)).unwrap_err();
        assert!(refused.starts_with("Memory limit should be smaller than already set memoryswap"));
        let both = limits(|l| (l.memory, l.memory_swap) = (200 << 20, -1));
        assert_eq!(plan(old(), both).unwrap().resources.memory_swap, -1);
        let lower = plan(old(), limits(|l| l.memory_swap = 10 << 20)).unwrap_err();
        assert!(lower.starts_with("Minimum memoryswap limit"));
    }

    #[test]
    fn two_ways_to_say_a_quota_exclude_each_other() {
        for (old, wanted) in [
            (limits(|l| l.cpu_period = 1000), limits(|l| l.nano_cpus = 1)),
            (limits(|l| l.cpu_quota = 1000), limits(|l| l.nano_cpus = 1)),
            (limits(|l| l.nano_cpus = 1), limits(|l| l.cpu_period = 1000)),
            (limits(|l| l.nano_cpus = 1), limits(|l| l.cpu_quota = 1000)),
        ] {
            let refused = plan(old, wanted).unwrap_err();
            assert!(refused.starts_with("Conflicting options: "), "{refused}");
        }
    }

    #[test]
    fn one_that_removes_itself_keeps_its_policy() {
        let spec = ContainerSpec {
            auto_remove: true,
            ..spec()
        };
        let request = |policy| UpdateRequest {
            limits: Resources::default(),
            restart_policy: Some(policy),
        };
        assert!(plan_update(&spec, &request(RestartPolicy::Always)).is_err());
        assert!(plan_update(&spec, &request(RestartPolicy::No)).is_ok());
    }
}
