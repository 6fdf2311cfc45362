//! What tests stand on: fixtures made of real files, temporary daemons and registries, and a leak check.
//!
//! Nothing here knows the product's crates: a fixture made by the code under test would agree with its
//! mistakes. Images are built byte by byte from Debian's static busybox, daemons are started as the binary a
//! person would start, and the leak check asks the kernel.
#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be made must stop the test, with the place"
)]
#![expect(
    clippy::print_stderr,
    reason = "a skipped test says so on stderr, a failing one shows its input"
)]

mod daemon;
mod images;
mod leaks;
mod mutate;
mod packages;
mod registry;
mod skip;
mod tar;
mod temporary_directory;
mod terminal;

pub use daemon::{TemporaryDaemon, exchange, exchange_bytes};
pub use images::{
    Compression, ImageBlobs, ImageBuilder, LayerBlob, busybox_binary, busybox_layer, sha256,
};
pub use leaks::KernelState;
pub use mutate::mutate;
pub use packages::{DOCKER, unpacked};
pub use registry::{Certificates, HTPASSWD, LocalRegistry, Login, PASSWORD, RegistryOptions, USER};
pub use skip::{is_root, skip};
pub use tar::{EntryKind, TarBuilder};
pub use temporary_directory::TemporaryDirectory;
pub use terminal::Terminal;
