//! Writing what was planned: limits and device access.

use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use hoist_model::container::{IoThrottle, IoWeight, Resources};
use rustix::io::Errno;

use super::CgroupError;
use super::device_program::{self, DEFAULT_RULES};
use super::directory::Directory;
use super::hierarchies::Hierarchies;
use super::layout::Controller;
use super::writes::{self, DeviceThrottle, DeviceWeight, LimitWrite};
use crate::devices::DeviceRule;

pub(super) fn errno_of(error: &CgroupError) -> Option<Errno> {
    match error {
        CgroupError::Directory { source, .. }
        | CgroupError::Write { source, .. }
        | CgroupError::Read { source, .. } => source.raw_os_error().map(Errno::from_raw_os_error),
        _ => None,
    }
}

fn apply_one(directory: &Directory, write: &LimitWrite) -> Result<(), CgroupError> {
    let mut last = Ok(());
    for file in write.files {
        last = directory.write(file, &write.value);
        match &last {
            Err(error) if errno_of(error) == Some(Errno::NOENT) => {}
            // Weights are for disks whose scheduler is bfq: Docker, which knows the file of the old one alone, drops them anywhere.
            Err(error) if write.optional && errno_of(error) == Some(Errno::OPNOTSUPP) => {
                tracing::warn!(%error, option = write.option, "a limit has no effect on this device");
            }
            _ => return last,
        }
    }
    if write.optional { Ok(()) } else { last }
}

/// v1: nothing but the default list.
pub(super) fn restrict_devices(directory: &Directory) -> Result<(), CgroupError> {
    directory.write("devices.deny", "a")?;
    add_devices(directory, &DEFAULT_RULES)
}

/// v1: more rules, in order.
pub(super) fn add_devices(directory: &Directory, rules: &[DeviceRule]) -> Result<(), CgroupError> {
    let mut alike = rules.chunk_by(|one, next| one.allow == next.allow);
    alike.try_for_each(|rules| {
        let file = if rules[0].allow {
            "devices.allow"
        } else {
            "devices.deny"
        };
        directory.write_each(file, rules.iter().map(device_program::v1_text))
    })
}

/// v1: every device, as a group has it that was never restricted.
pub(super) fn allow_all_devices(directory: &Directory) -> Result<(), CgroupError> {
    directory.write("devices.allow", "a")
}

/// v2: the default list and `rules` as a program.
pub(super) fn attach_device_program(
    directory: &Directory,
    rules: &[DeviceRule],
) -> Result<(), CgroupError> {
    let failed = |source| CgroupError::DeviceProgram {
        path: directory.path().to_owned(),
        source,
    };
    let rules: Vec<_> = DEFAULT_RULES.iter().chain(rules).copied().collect();
    let program =
        hoist_sys::bpf::load_device_program(&device_program::program(&rules)).map_err(failed)?;
    hoist_sys::bpf::attach_device_program(directory.fd(), program.as_fd()).map_err(failed)
}

/// The writes for `resources`: each controller takes the list of the version it lives on.
pub(super) fn limit_writes(
    hierarchies: &Hierarchies,
    resources: &Resources,
) -> Result<Vec<LimitWrite>, CgroupError> {
    let throttles = throttles(&resources.io_throttles)?;
    let weights = weights(&resources.io_weights)?;
    let (v1, v2) = (
        writes::v1(resources, &weights, &throttles),
        writes::v2(resources, &weights, &throttles),
    );
    let on_v2 = |write: &LimitWrite| hierarchies.is_unified(write.controller);
    let mut all: Vec<LimitWrite> = v1.into_iter().filter(|write| !on_v2(write)).collect();
    all.extend(v2.into_iter().filter(on_v2));
    Ok(all)
}

/// Writes limits; one that the kernel refuses as it stands beside an old value is tried again after the others.
pub(super) fn apply<'d>(
    writes: &[LimitWrite],
    find: impl Fn(Controller) -> Option<&'d Directory>,
) -> Result<(), CgroupError> {
    let mut again = Vec::new();
    for (index, write) in writes.iter().enumerate() {
        let Some(directory) = find(write.controller) else {
            if write.optional {
                continue;
            }
            return Err(CgroupError::MissingController {
                controller: write.controller.v1_name(),
                option: write.option,
            });
        };
        match apply_one(directory, write) {
            Err(error) if errno_of(&error) == Some(Errno::INVAL) && index + 1 < writes.len() => {
                again.push((directory, write));
            }
            other => other?,
        }
    }
    again
        .into_iter()
        .try_for_each(|(directory, write)| apply_one(directory, write))
}

fn throttles(requests: &[IoThrottle]) -> Result<Vec<DeviceThrottle>, CgroupError> {
    let requests = requests.iter().map(|throttle| {
        let (major, minor) = block_device(&throttle.path, "throttled device")?;
        Ok(DeviceThrottle {
            major,
            minor,
            kind: throttle.kind,
            rate: throttle.rate,
        })
    });
    requests.collect()
}

fn weights(requests: &[IoWeight]) -> Result<Vec<DeviceWeight>, CgroupError> {
    let requests = requests.iter().map(|request| {
        let (major, minor) = block_device(&request.path, "weighted device")?;
        Ok(DeviceWeight {
            major,
            minor,
            weight: request.weight,
        })
    });
    requests.collect()
}

fn block_device(path: &str, option: &'static str) -> Result<(u32, u32), CgroupError> {
    let invalid = |reason| CgroupError::InvalidValue {
        option,
        value: path.to_owned(),
        reason,
    };
    let metadata = std::fs::metadata(path).map_err(|_| invalid("no such device"))?;
    if !metadata.file_type().is_block_device() {
        return Err(invalid("not a block device"));
    }
    let device = metadata.rdev();
    Ok((rustix::fs::major(device), rustix::fs::minor(device)))
}
