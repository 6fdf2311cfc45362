//! bpf(2): the two commands that put a device program on a v2 control group.
//!
//! No safe crate offers these without a loader for whole object files, which is far more than two calls need.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The first fields of `union bpf_attr` for `BPF_PROG_LOAD` (linux/bpf.h); the kernel takes the rest as zero.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The first fields of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is a live `repr(C)` struct and its exact size is passed, so the kernel reads only it; the
    // pointers inside are set by the two callers below to buffers that outlive the call.
    // JUSTIFICATION: neither std nor rustix wraps bpf(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Loads a `BPF_PROG_TYPE_CGROUP_DEVICE` program: `struct bpf_insn` records, eight bytes each, native byte order.
///
/// Errors: the kernel's, `EINVAL` or `EACCES` where its verifier refuses the program, `EPERM` without `CAP_BPF`.
pub fn load_device_program(instructions: &[u8]) -> io::Result<OwnedFd> {
    let count = u32::try_from(instructions.len() / 8).map_err(io::Error::other)?;
    let license = c"Apache-2.0";
    let attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: count,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        ..LoadAttributes::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &attributes)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just returned this descriptor to us, so it is open and nobody else owns it.
    // JUSTIFICATION: a raw system call returns a raw descriptor; bpf(2) opens it close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a loaded device program to a v2 control group directory, beside programs that are there already.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = AttachAttributes {
        target_fd: cgroup.as_raw_fd().cast_unsigned(),
        program_fd: program.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attributes).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// `r0 = 1; exit`: every access is allowed.
    const ALLOW: [u8; 16] = [0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn the_kernel_takes_a_sound_program_and_says_why_not() {
        let program = match load_device_program(&ALLOW) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("skipped: bpf(2) needs root");
                return;
            }
            other => other.unwrap(),
        };
        // Not a control group.
        let directory = std::fs::File::open("/").unwrap();
        let error = attach_device_program(directory.as_fd(), program.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        // Falls off its end.
        let error = load_device_program(&ALLOW[..8]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert!(load_device_program(&[]).is_err());
    }
}
